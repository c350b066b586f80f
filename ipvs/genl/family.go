package genl

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// controller is the family that knows the others (linux/genetlink.h,
// GENL_ID_CTRL).
var controller = Family{ID: unix.GENL_ID_CTRL, Version: 1}

// Family asks for a family by its name. If there is none the error is ENOENT.
func (c *Conn) Family(name string) (Family, error) {
	var f Family
	err := c.Get(controller, unix.CTRL_CMD_GETFAMILY,
		func(e *Encoder) { e.String(unix.CTRL_ATTR_FAMILY_NAME, name) },
		func(d *Decoder) {
			for d.Next() {
				switch d.Type() {
				case unix.CTRL_ATTR_FAMILY_ID:
					f.ID = d.Uint16()
				case unix.CTRL_ATTR_VERSION:
					f.Version = uint8(d.Uint32())
				}
			}
		})
	if err == nil && f.ID == 0 {
		err = fmt.Errorf("%w: no number of a family", ErrMalformed)
	}
	if err != nil {
		return Family{}, fmt.Errorf("generic netlink family %s: %w", name, err)
	}
	return f, nil
}
