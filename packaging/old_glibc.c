/* Lets libbihrnet_lce.so run on glibc 2.27 though the machine that builds it has a newer one.
 *
 * The static libstdc++ and libgcc take a few symbols of glibc in the version that they were built against. Each of them
 * is here: bound to its first version, which every later glibc offers too, or defined. Linked with BIHRNET_OLD_GLIBC
 * only, which the manylinux wheels set; all are hidden, so nobody else in the process meets them. Where a compiler
 * wants one more, packaging/check_wheel.py names it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)
#define FIRST_VERSION "GLIBC_2.2.5"
#elif defined(__aarch64__)
#define FIRST_VERSION "GLIBC_2.17"
#else
#error "wheels are built for x86-64 and aarch64"
#endif

#define HIDDEN __attribute__((visibility("hidden")))
#define FORWARD(name, parameters, arguments)                   \
  extern int first_##name parameters;                          \
  __asm__(".symver first_" #name "," #name "@" FIRST_VERSION); \
  HIDDEN int name parameters { return first_##name arguments; }

/* glibc 2.34 moved these from libpthread into libc, under a new version. */
FORWARD(pthread_create, (pthread_t * thread, const pthread_attr_t* attributes, void* (*run)(void*), void* argument),
        (thread, attributes, run, argument))
FORWARD(pthread_join, (pthread_t thread, void** result), (thread, result))
FORWARD(pthread_detach, (pthread_t thread), (thread))
FORWARD(pthread_once, (pthread_once_t * once, void (*run)(void)), (once, run))
FORWARD(__pthread_key_create, (pthread_key_t * key, void (*destroy)(void*)), (key, destroy))

/* Of glibc 2.32. Anything but 0 would say that there are no other threads, which only libc can know. */
HIDDEN char __libc_single_threaded = 0;

#if __GLIBC_PREREQ(2, 35)
/* Where the unwinder finds the frames of an object; it searched like this before glibc 2.35. */
struct search {
  uintptr_t address;
  struct dl_find_object* result;
};

static int look_at_object(struct dl_phdr_info* object, size_t size, void* data) {
  const struct search* search = data;
  const ElfW(Phdr)* segment = NULL;
  void* eh_frame = NULL;
  (void)size;
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr)* header = &object->dlpi_phdr[i];
    const uintptr_t start = object->dlpi_addr + header->p_vaddr;
    if (header->p_type == PT_LOAD && search->address - start < header->p_memsz) segment = header;
    if (header->p_type == DLFO_EH_SEGMENT_TYPE) eh_frame = (void*)start;
  }
  if (segment == NULL || eh_frame == NULL) return 0;
  search->result->dlfo_map_start = (void*)(object->dlpi_addr + segment->p_vaddr);
  search->result->dlfo_map_end = (char*)search->result->dlfo_map_start + segment->p_memsz;
  search->result->dlfo_eh_frame = eh_frame;
  return 1;
}

HIDDEN int _dl_find_object(void* address, struct dl_find_object* result) {
  struct search search = {(uintptr_t)address, result};
  return dl_iterate_phdr(look_at_object, &search) ? 0 : -1;
}
#endif
