/* One io_uring operation, by raw system calls. */
#ifndef URING_H
#define URING_H

#include <errno.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define URING_MISSING 10000 /* this kernel has no io_uring for us: URING_MISSING + errno */

struct ring {
  int fd;
  struct io_uring_params params;
  char *at;
  size_t size;
  struct io_uring_sqe *sqe;
};

static int ring_open(struct ring *ring, unsigned flags)
{
  memset(ring, 0, sizeof(*ring));
  ring->params.flags = flags;
  ring->params.sq_thread_idle = 100;
  ring->fd = syscall(SYS_io_uring_setup, 4, &ring->params);
  if (ring->fd < 0)
    return errno;
  struct io_uring_params *p = &ring->params;
  size_t sq = p->sq_off.array + p->sq_entries * sizeof(__u32);
  size_t cq = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
  ring->size = sq > cq ? sq : cq;
  ring->at = mmap(0, ring->size, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, IORING_OFF_SQ_RING);
  ring->sqe = mmap(0, p->sq_entries * sizeof(*ring->sqe), PROT_READ | PROT_WRITE, MAP_SHARED,
                   ring->fd, IORING_OFF_SQES);
  return ring->at == MAP_FAILED || ring->sqe == MAP_FAILED ? errno : 0;
}

static void ring_close(struct ring *ring)
{
  munmap(ring->sqe, ring->params.sq_entries * sizeof(*ring->sqe));
  munmap(ring->at, ring->size);
  close(ring->fd);
}

/* Does one operation; returns its result as the kernel gives it (>= 0, or -errno). */
static int uring_do(const struct io_uring_sqe *what, int async, int sqpoll)
{
  struct ring ring;
  int err = ring_open(&ring, sqpoll ? IORING_SETUP_SQPOLL : 0), fd = what->fd;
  if (err)
    return -(URING_MISSING + err);
  *ring.sqe = *what;
  if (async)
    ring.sqe->flags |= IOSQE_ASYNC;
  if (sqpoll) { /* before Linux 5.11 the polling thread knows registered files only */
    if (syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_FILES, &fd, 1))
      return -(URING_MISSING + errno);
    ring.sqe->flags |= IOSQE_FIXED_FILE;
    ring.sqe->fd = 0;
  }
  *(__u32 *)(ring.at + ring.params.sq_off.array) = 0;
  __atomic_store_n((__u32 *)(ring.at + ring.params.sq_off.tail), 1, __ATOMIC_RELEASE);
  unsigned enter = IORING_ENTER_GETEVENTS | (sqpoll ? IORING_ENTER_SQ_WAKEUP : 0);
  struct io_uring_cqe *cqe = (struct io_uring_cqe *)(ring.at + ring.params.cq_off.cqes);
  __u32 *tail = (__u32 *)(ring.at + ring.params.cq_off.tail);
  while (__atomic_load_n(tail, __ATOMIC_ACQUIRE) == 0)
    if (syscall(SYS_io_uring_enter, ring.fd, sqpoll ? 0 : 1, 1, enter, 0, 0) < 0 && errno != EINTR)
      return -(URING_MISSING + errno);
  int result = cqe->res;
  ring_close(&ring);
  return result;
}

#endif
