/*
 * Makes Debian's static libelf.a and libbpf.a usable inside a shared object.
 *
 * Both archives are compiled for executables (PIE, not PIC). Exactly two things in them cannot be linked
 * into a .so, and both are replaced here:
 *  1. libelf's elf_error.o keeps its error number in a thread-local of the local-exec model. This file
 *     defines the same three functions, so the linker never pulls that member in.
 *  2. libbpf.o addresses libc's `stderr` directly. `-Wl,--wrap=stderr` turns that into `__wrap_stderr`,
 *     a variable of our own that is filled when the addon is loaded.
 * Should an archive be PIC one day, both remain harmless.
 */
#include <stdio.h>

static __thread int last_error;

void __libelf_seterrno(int value);
int elf_errno(void);
const char *elf_errmsg(int error);

void __libelf_seterrno(int value)
{
	last_error = value;
}

int elf_errno(void)
{
	int value = last_error;

	last_error = 0;
	return value;
}

/* elf_errmsg(0) is NULL when nothing happened, elf_errmsg(-1) is always a text: elf_errmsg(3). */
const char *elf_errmsg(int error)
{
	static __thread char text[48];

	if (error == 0 || error == -1) {
		if (error == 0 && last_error == 0)
			return NULL;
		error = last_error;
	}
	if (error == 0)
		return "no error";
	snprintf(text, sizeof(text), "malformed ELF (libelf error %d)", error);
	return text;
}

extern FILE *__real_stderr;
FILE *__wrap_stderr;

__attribute__((constructor)) static void fill_stderr(void)
{
	__wrap_stderr = __real_stderr;
}
