package gate

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
)

// Supported returns nil if a gate can be had here, by making one: it loads the
// programs and attaches a filter that lets everything pass to lo of the calling
// thread's network namespace for a moment.
//
// Errors: ErrNotSupported, with reason and remedy.
func Supported() error {
	l, err := load(1)
	if err != nil {
		return err
	}
	l.close()
	if err := tryAttach(); err != nil {
		if errors.Is(err, ErrNotSupported) {
			return err
		}
		return fmt.Errorf("%w: %w", ErrNotSupported, err)
	}
	return nil
}

func tryAttach() error {
	h, err := netlink.NewHandle(netlinkRoute)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	lo, err := h.LinkByIndex(1) // LOOPBACK_IFINDEX of include/net/flow.h
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	pass, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "zklvs_probe", Type: ebpf.SchedCLS, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, actUnspec), asm.Return()},
	})
	if err != nil {
		return fmt.Errorf("load a program: %w", explain(err))
	}
	defer pass.Close()
	if err := addClsact(h, lo, ingress); err != nil {
		return err
	}
	err = h.FilterReplace(filter(lo, netlink.HANDLE_MIN_INGRESS, pass.FD()))
	return errors.Join(explainProbe(err), removeFrom(h, lo))
}

func explainProbe(err error) error {
	if err == nil {
		return nil
	}
	return explainFilter(err, hook{})
}
