/* SPDX-License-Identifier: BSD-2-Clause */
/* The boards that a VM file starts from.  A section of the file overrides the one of the same name;
 * `type = none` takes a device away. */
#include "core/config/config.h"

/* PC/AT with 440BX and PIIX4: what a "generation 1" machine has at its usual addresses. */
static const char generation1[] = "[vdev host]\n"
                                  "type = i440fx\n"
                                  "[vdev pic]\n"
                                  "type = i8259\n"
                                  "[vdev ioapic]\n"
                                  "type = ioapic\n"
                                  "[vdev isa]\n"
                                  "type = piix4\n"
                                  "[vdev pit]\n"
                                  "type = i8254\n"
                                  "[vdev rtc]\n"
                                  "type = mc146818\n"
                                  "[vdev kbd]\n"
                                  "type = i8042\n"
                                  "[vdev com1]\n"
                                  "type = uart16550\n"
                                  "port = 0x3f8\n"
                                  "irq = 4\n"
                                  "backend = stdio\n";

/* What every enlightened guest gets besides: it costs nothing until a driver opens it. */
static const char services[] = "[vdev heartbeat]\n"
                               "type = heartbeat\n"
                               "[vdev timesync]\n"
                               "type = timesync\n"
                               "[vdev shutdown]\n"
                               "type = shutdown\n"
                               "[vdev kvp]\n"
                               "type = kvp\n"
                               "[vdev synthkbd]\n"
                               "type = synthkbd\n"
                               "[vdev synthmouse]\n"
                               "type = synthmouse\n"
                               "[vdev video]\n"
                               "type = synthvideo\n";

const char *config_preset(unsigned generation)
{
    return generation == 1 ? generation1 : NULL;
}

const char *config_preset_enlightened(void)
{
    return services;
}
