package lab

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// tcActShot is TC_ACT_SHOT of linux/pkt_cls.h: drop the packet.
const tcActShot = 2

// CutIn loses what comes to a card, at the switch; what it sends goes through.
func (h *Host) CutIn(nic string) error { return h.cutWay(nic, netlink.HANDLE_MIN_EGRESS) }

// CutOut loses what a card sends, at the switch; what comes to it goes through.
func (h *Host) CutOut(nic string) error { return h.cutWay(nic, netlink.HANDLE_MIN_INGRESS) }

// cutWay drops all packets at one side of a card's port, by a program of one
// answer: both kernels that we run on have clsact and cls_bpf, not all have the
// other ways to drop.
func (h *Host) cutWay(nic string, parent uint32) error {
	return h.lab.wires.Do(func() error {
		return h.withPort(nic, func(port netlink.Link) error {
			drop, err := ebpf.NewProgram(&ebpf.ProgramSpec{
				Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, tcActShot), asm.Return()},
			})
			if err != nil {
				return fmt.Errorf("load the program that drops: %w", err)
			}
			defer drop.Close()
			wires := h.switchHandle()
			if err := wires.QdiscReplace(clsact(port)); err != nil {
				return fmt.Errorf("add clsact: %w", err)
			}
			return wires.FilterReplace(&netlink.BpfFilter{
				FilterAttrs: netlink.FilterAttrs{LinkIndex: port.Attrs().Index, Parent: parent, Handle: 1, Priority: 1, Protocol: unix.ETH_P_ALL},
				Fd:          drop.FD(), Name: "cut", DirectAction: true,
			})
		})
	})
}

func clsact(port netlink.Link) netlink.Qdisc {
	return &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: port.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT},
		QdiscType:  "clsact",
	}
}

// HealWay takes CutIn and CutOut back; it may be called without them.
func (h *Host) HealWay(nic string) error {
	return h.withPort(nic, func(port netlink.Link) error {
		err := h.switchHandle().QdiscDel(clsact(port))
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) { // there is none
			return nil
		}
		return err
	})
}

// Impairment is what a bad link does to the packets that a card sends
// (tc-netem(8)).
type Impairment struct {
	Loss          float32 // percent
	Delay, Jitter time.Duration
}

// ErrNoNetem says that this kernel has no network emulator.
var ErrNoNetem = errors.New("this kernel has no netem")

// Impair makes the packets that a card sends suffer; what comes to it does not. A
// second call replaces the first.
func (h *Host) Impair(nic string, i Impairment) error {
	return h.withLink(nic, func(card netlink.Link) error {
		// The attributes are in microseconds.
		err := h.netlink.QdiscReplace(netlink.NewNetem(
			netlink.QdiscAttrs{LinkIndex: card.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
			netlink.NetemQdiscAttrs{Loss: i.Loss, Latency: uint32(i.Delay.Microseconds()), Jitter: uint32(i.Jitter.Microseconds())}))
		if errors.Is(err, unix.ENOENT) {
			return ErrNoNetem
		}
		return err
	})
}

// Unimpair takes Impair back; it may be called without one.
func (h *Host) Unimpair(nic string) error {
	return h.withLink(nic, func(card netlink.Link) error {
		err := h.netlink.QdiscDel(&netlink.GenericQdisc{
			QdiscAttrs: netlink.QdiscAttrs{LinkIndex: card.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}, QdiscType: "netem",
		})
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) { // there is none
			return nil
		}
		return err
	})
}

// AddAddress binds an address to a card as somebody would by hand: forever.
func (h *Host) AddAddress(nic string, address string) error {
	return h.withAddress(nic, address, h.netlink.AddrReplace)
}

// RemoveAddress takes an address off a card; it is no error if it is not there.
func (h *Host) RemoveAddress(nic string, address string) error {
	return h.withAddress(nic, address, func(card netlink.Link, a *netlink.Addr) error {
		err := h.netlink.AddrDel(card, a)
		if errors.Is(err, unix.EADDRNOTAVAIL) {
			return nil
		}
		return err
	})
}

func (h *Host) withAddress(nic, address string, act func(netlink.Link, *netlink.Addr) error) error {
	a, err := netlink.ParseAddr(address)
	if err != nil {
		return fmt.Errorf("address %s on %s: %w", address, h.name, err)
	}
	return h.withLink(nic, func(card netlink.Link) error { return act(card, a) })
}
