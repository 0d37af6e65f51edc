#if defined(__aarch64__)
#define BIHRNET_ISA(name) name##Neon
#define BIHRNET_OWN_EPILOGUE
#include "rows.inc"
#endif
