#define BIHRNET_ISA(name) name##Scalar
#include "rows.inc"
