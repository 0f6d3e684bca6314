/*
 * What programs do: getaddrinfo() for IPv4, by /etc/resolv.conf and nothing
 * between. Each in a process of its own, all at the same time.
 *
 *   dns-glibc COUNT SUFFIX
 *
 * Prints for each, in any order, nanoseconds and "right", "wrong" or "failed".
 */
#include "dns.h"

#include <netdb.h>
#include <sys/wait.h>

static void ask_one(int nth, const char *suffix)
{
  char name[NAME_BYTES_MAX], line[64];
  uint8_t query[DNS_BYTES_MAX];
  struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found = NULL;
  snprintf(name, sizeof(name), "g%d-%d-%llx.%s", nth, getpid(), (unsigned long long)now_ns(), suffix);
  make_query(query, name);
  uint64_t start = now_ns();
  int failed = getaddrinfo(name, NULL, &hints, &found);
  uint64_t took = now_ns() - start;
  const char *how = "failed";
  if (!failed) {
    uint32_t got = ((struct sockaddr_in *)found->ai_addr)->sin_addr.s_addr;
    how = got == address_of(query + HEADER_BYTES) && found->ai_next == NULL ? "right" : "wrong";
  }
  int bytes = snprintf(line, sizeof(line), "%llu %s\n", (unsigned long long)took, how);
  if (write(1, line, bytes) != bytes) /* at once: lines of others do not mix */
    die("write");
}

int main(int argc, char **argv)
{
  if (argc != 3)
    die("usage: dns-glibc COUNT SUFFIX");
  int count = atoi(argv[1]);
  for (int i = 0; i < count; i++)
    if (fork() == 0) {
      ask_one(i, argv[2]);
      _exit(0);
    }
  while (wait(NULL) > 0) {
  }
  return 0;
}
