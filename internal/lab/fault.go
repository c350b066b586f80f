package lab

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
)

// The faults of a network card, from the loudest to the quietest:
// LinkDown is what an administrator does and the host knows it; Unplug takes
// the carrier away; after Cut all looks well, but nothing comes through.

// LinkDown sets a network card down, as ip link set NIC down does: its routes
// go, its addresses stay.
func (h *Host) LinkDown(nic string) error { return h.withLink(nic, h.netlink.LinkSetDown) }

// LinkUp sets a network card up.
func (h *Host) LinkUp(nic string) error { return h.withLink(nic, h.netlink.LinkSetUp) }

// Unplug takes the cable out at the switch: the card loses its carrier.
func (h *Host) Unplug(nic string) error { return h.withPort(nic, h.switchHandle().LinkSetDown) }

// Plug puts the cable in again.
func (h *Host) Plug(nic string) error { return h.withPort(nic, h.switchHandle().LinkSetUp) }

// Cut takes a card's port out of its LAN: the carrier stays, packets are lost
// in both directions.
func (h *Host) Cut(nic string) error { return h.withPort(nic, h.switchHandle().LinkSetNoMaster) }

// Heal puts a card's port into its LAN again.
func (h *Host) Heal(nic string) error {
	wires := h.switchHandle()
	return h.withPort(nic, func(port netlink.Link) error {
		bridge, err := wires.LinkByName(h.nic(nic).LAN)
		if err != nil {
			return err
		}
		return wires.LinkSetMaster(port, bridge)
	})
}

// Freeze stops every process in the host (SIGSTOP); its kernel goes on.
func (h *Host) Freeze() error {
	_, err := h.signalAll(syscall.SIGSTOP)
	return err
}

// Thaw lets every process in the host go on (SIGCONT).
func (h *Host) Thaw() error {
	_, err := h.signalAll(syscall.SIGCONT)
	return err
}

// Crash kills every process in the host (SIGKILL) and returns when none is
// left; what the kernel holds, addresses and IPVS rules, stays. None gets to act
// upon the death of another: they are stopped before, and children go first.
func (h *Host) Crash() error {
	if err := h.Freeze(); err != nil {
		return err
	}
	pids, err := h.pids()
	if err != nil {
		return err
	}
	slices.Sort(pids)
	for _, pid := range slices.Backward(pids) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill process %d on %s: %w", pid, h.name, err)
		}
	}
	return h.killAll()
}

// SetMAC changes the hardware address of a network card, which must be down on
// real hardware; veth takes it at once.
func (h *Host) SetMAC(nic string, mac net.HardwareAddr) error {
	return h.withLink(nic, func(link netlink.Link) error { return h.netlink.LinkSetHardwareAddr(link, mac) })
}

func (h *Host) switchHandle() *netlink.Handle { return h.lab.wires.netlink }

// port names the switch's end of a card's cable.
func (h *Host) port(nic string) string { return h.name + "-" + nic }

func (h *Host) withLink(nic string, act func(netlink.Link) error) error {
	return withLink(h.netlink, nic, h.name, act)
}

func (h *Host) withPort(nic string, act func(netlink.Link) error) error {
	return withLink(h.switchHandle(), h.port(nic), "the switch", act)
}

func withLink(handle *netlink.Handle, name, where string, act func(netlink.Link) error) error {
	link, err := handle.LinkByName(name)
	if err == nil {
		err = act(link)
	}
	if err != nil {
		return fmt.Errorf("link %s of %s: %w", name, where, err)
	}
	return nil
}
