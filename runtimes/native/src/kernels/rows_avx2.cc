#if defined(__AVX2__)
#define BIHRNET_ISA(name) name##Avx2
#define BIHRNET_OWN_EPILOGUE
#include "rows.inc"
#endif
