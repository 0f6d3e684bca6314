# BPF objects, for scripts/build: bpf/X.bpf.c -> dist/bpf/X.bpf.o, test/**/X.bpf.c -> dist/test/**/X.bpf.o.
# -mcpu=v3 (32-bit ALU and jumps) loads from Linux 5.1 on. It also lets clang emit atomics that return a value,
# which 5.10 cannot load: the build refuses them. llvm-strip -g drops DWARF and keeps BTF.
CLANG ?= clang
LLVM_STRIP ?= llvm-strip
LLVM_OBJDUMP ?= llvm-objdump
arch := $(patsubst aarch64,arm64,$(patsubst x86_64,x86,$(shell uname -m)))
multiarch := $(shell gcc -print-multiarch)
flags := -target bpf -mcpu=v3 -O2 -g -std=gnu11 -Wall -Wextra -Wno-unused-parameter -Werror -D__TARGET_ARCH_$(arch) \
	-Ibpf -I/usr/include/$(multiarch) -fdebug-prefix-map=$(CURDIR)=.

sources := $(wildcard bpf/*.bpf.c)
ifndef RELEASE
sources += $(shell find test -name '*.bpf.c')
endif
objects := $(sources:%.c=dist/%.o)

all: $(objects)

dist/%.bpf.o: %.bpf.c scripts/bpf.mk
	@mkdir -p $(@D)
	$(CLANG) $(flags) -MMD -MP -MF $(@:.o=.d) -MT $@ -c $< -o $@.tmp
	$(LLVM_STRIP) -g $@.tmp
	@if $(LLVM_OBJDUMP) -d $@.tmp | grep -E 'atomic_fetch|xchg|cmpxchg'; then \
		echo "$<: an atomic that returns a value does not load on Linux 5.10" >&2; exit 1; fi
	@mv $@.tmp $@

-include $(objects:.o=.d)
.PHONY: all
.DELETE_ON_ERROR:
