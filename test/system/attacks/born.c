/*
 * Processes born into cgroups that did not exist a moment before.
 *
 *   born COUNT ADDR PORT FOLDER/NAME-%d …
 *
 * For each number below COUNT and each name: mkdir, clone3(CLONE_INTO_CGROUP),
 * the child connects at once and says its name, rmdir. Prints, per name,
 *   {"FOLDER/NAME-%d":{"ok":N,"EPERM":N,…},…}
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what)
{
  fprintf(stderr, "born: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int dial(const struct sockaddr_in *to)
{
  struct linger reset = {.l_onoff = 1}; /* no TIME_WAIT: ports must not run out */
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
  return connect(fd, (const struct sockaddr *)to, sizeof(*to)) ? errno : 0;
}

static int give_birth(const char *folder, const struct sockaddr_in *to)
{
  if (mkdir(folder, 0755))
    die(folder);
  int fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC), status;
  struct clone_args args = {
      .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = fd};
  pid_t child = syscall(SYS_clone3, &args, sizeof(args));
  if (child < 0)
    die("clone3");
  if (child == 0)
    _exit(dial(to));
  if (waitpid(child, &status, 0) < 0)
    die("waitpid");
  close(fd);
  while (rmdir(folder)) /* busy until the dead one is gone from it */
    if (errno != EBUSY)
      die(folder);
  return WEXITSTATUS(status);
}

int main(int argc, char **argv)
{
  struct sockaddr_in to = {.sin_family = AF_INET};
  static int seen[64][256];
  if (argc < 5 || argc > 64 || inet_pton(AF_INET, argv[2], &to.sin_addr) != 1)
    return fprintf(stderr, "usage: born COUNT ADDR PORT FOLDER/NAME-%%d …\n"), 2;
  to.sin_port = htons(atoi(argv[3]));
  for (int i = 0; i < atoi(argv[1]); i++) {
    for (int j = 4; j < argc; j++) {
      char folder[512], number[16];
      const char *hole = strstr(argv[j], "%d");
      if (!hole)
        die("a name without %d");
      snprintf(number, sizeof(number), "%d", i);
      snprintf(folder, sizeof(folder), "%.*s%s%s", (int)(hole - argv[j]), argv[j], number, hole + 2);
      seen[j][give_birth(folder, &to)]++;
    }
  }
  printf("{");
  for (int j = 4; j < argc; j++) {
    const char *comma = "";
    printf("%s\"%s\":{", j > 4 ? "," : "", argv[j]);
    for (int err = 0; err < 256; err++) {
      if (!seen[j][err])
        continue;
      printf("%s\"%s\":%d", comma, err ? strerrorname_np(err) : "ok", seen[j][err]);
      comma = ",";
    }
    printf("}");
  }
  printf("}\n");
  return 0;
}
