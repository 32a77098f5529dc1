/* SPDX-License-Identifier: BSD-2-Clause */
/* The vdev ABI as released: sizes, and offsets of first and last members (64-bit hosts).  A number
 * here changes only with the major version; appending to a structure adds a line. */
#include <mobo/vdev.h>
#include <stdio.h>

#define SIZE(type, n) _Static_assert(sizeof(struct type) == (n), #type " has another size")
#define AT(type, member, off) \
    _Static_assert(offsetof(struct type, member) == (off), #type "." #member " has moved")

/* 1.0 */
SIZE(mobo_vdev_descriptor, 88);
AT(mobo_vdev_descriptor, type, 16);
AT(mobo_vdev_descriptor, dev_class, 56);
AT(mobo_vdev_descriptor, params, 64);
AT(mobo_vdev_descriptor, ops, 80);
SIZE(mobo_vdev_ops, 96);
AT(mobo_vdev_ops, create, 8);
AT(mobo_vdev_ops, save, 56);
AT(mobo_vdev_ops, event, 80);
AT(mobo_vdev_ops, command, 88); /* 1.1 */
SIZE(mobo_param, 64);
SIZE(mobo_field, 32);
SIZE(mobo_io_ops, 24);
SIZE(mobo_pci_info, 28);
SIZE(mobo_pci_ops, 24);
SIZE(mobo_char_ops, 32);
SIZE(mobo_board_info, 40);
AT(mobo_board_info, vm, 32); /* 1.1 */
SIZE(mobo_event, 8);
SIZE(mobo_acpi_ioapic, 32);
SIZE(mobo_acpi_pm, 36);
SIZE(mobo_acpi_hpet, 24);
SIZE(mobo_acpi_isa, 96);
SIZE(mobo_acpi_legacy, 16);
SIZE(mobo_acpi_pci_root, 16);
SIZE(mobo_acpi_pci_links, 40);
AT(mobo_host, fail, 8);
AT(mobo_host, pio_add, 88);
AT(mobo_host, mem_read, 120);
AT(mobo_host, irq_claim, 184);
AT(mobo_host, pci_add, 264);
AT(mobo_host, clock_ns, 392);
AT(mobo_host, char_open, 464);
AT(mobo_host, system_request, 488);
AT(mobo_host, save_fields, 504);
AT(mobo_host, inspect_end, 608);

/* 1.1 */
SIZE(mobo_block_info, 48);
SIZE(mobo_block_req, 120);
SIZE(mobo_iov, 24);
SIZE(mobo_net_info, 16);
SIZE(mobo_net_ops, 24);
SIZE(mobo_surface, 40);
SIZE(mobo_cursor, 32);
SIZE(mobo_display_ops, 24);
SIZE(mobo_input_event, 36);
SIZE(mobo_input_ops, 16);

int main(void)
{
    printf("host table: %zu bytes\n", sizeof(struct mobo_host));
    return sizeof(struct mobo_host) < 616; /* grows only */
}
