// The few built-in operators that the test runtime runs itself, as plain loops in float.
#pragma once

#include <cstdint>

#include "tflite/abi.h"

namespace mini {

// Fills in prepare and invoke for an operator that this runtime runs; leaves them null for the others.
void SetReference(int32_t builtin, TfLiteRegistration* registration);

}  // namespace mini
