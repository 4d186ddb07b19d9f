/* What lwIP wants to know of the compiler and of the machine. */

#ifndef ARCH_CC_H
#define ARCH_CC_H

#include <endian.h>
#include <stdlib.h>

#define LWIP_RAND() ((u32_t)random())

#endif
