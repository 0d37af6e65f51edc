#if defined(__aarch64__)
#define BIHRNET_ISA(name) name##Neon
#include "rows.inc"
#endif
