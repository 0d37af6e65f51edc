#if defined(__AVX2__)
#define BIHRNET_ISA(name) name##Avx2
#include "rows.inc"
#endif
