{
  # libbpf, libelf and zlib are linked statically (Debian: libbpf-dev, libelf-dev, zlib1g-dev), libstdc++ and
  # libgcc too, so that the built addon asks the host for nothing but libc. native/static_libs.c says what
  # had to be done for archives that were not made for shared objects.
  'targets': [
    {
      'target_name': 'zerohop_bpf',
      'sources': [
        'native/args.cc',
        'native/dns.cc',
        'native/dns_answer.cc',
        'native/dns_thread.cc',
        'native/errors.cc',
        'native/handle.cc',
        'native/link.cc',
        'native/log.cc',
        'native/map.cc',
        'native/map_batch.cc',
        'native/module.cc',
        'native/netlink.cc',
        'native/object.cc',
        'native/object_edit.cc',
        'native/probe.cc',
        'native/program.cc',
        'native/ringbuf.cc',
        'native/static_libs.c',
      ],
      'include_dirs': ["<!(node -p \"require('node-addon-api').include_dir\")"],
      'defines': [
        'NAPI_VERSION=9',
        'NODE_ADDON_API_CPP_EXCEPTIONS',
        'NODE_ADDON_API_CPP_EXCEPTIONS_ALL',
        'NODE_ADDON_API_DISABLE_DEPRECATED',
        # A worker that is being terminated cannot take an exception any more: drop it instead of aborting.
        'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS',
        '_GNU_SOURCE',
      ],
      'cflags': ['-fvisibility=hidden', '-Wall', '-Wextra', '-Wno-unused-parameter'],
      'cflags!': ['-fno-exceptions'],
      'cflags_cc': ['-std=c++17', '-fexceptions', '-Wno-missing-field-initializers'],
      'cflags_cc!': ['-fno-exceptions', '-std=gnu++20'],
      'ldflags': [
        '-static-libstdc++',
        '-static-libgcc',
        '-Wl,--exclude-libs,ALL',
        '-Wl,--wrap=stderr',
        # Several worker threads may load and drop the addon: its code stays mapped until the process ends.
        '-Wl,-z,nodelete',
        '-Wl,-z,text',
        '-Wl,-z,relro,-z,now',
      ],
      'libraries': [
        '-l:libbpf.a',
        '-l:libelf.a',
        '-l:libz.a',
        # elfutils ≥ 0.189 may be built with zstd (Debian 13 is); ask the archive itself.
        "<!(sh native/zstd-flag.sh)",
      ],
    },
  ],
}
