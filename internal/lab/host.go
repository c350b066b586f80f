package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// NIC is a network card of a host: its name there, the LAN it is plugged into,
// and its address with the prefix length of that LAN.
type NIC struct {
	Name    string
	LAN     string
	Address netip.Prefix
}

// Host is a machine of the lab: network, mount and uts namespaces of its own,
// with a private /run, a host name, and the names of all hosts in /etc/hosts.
// Process ids and all other files are this machine's.
type Host struct {
	lab          *Lab
	name         string
	nics         []NIC
	thread       *thread // lives in the namespaces and keeps them
	proc         string  // /proc directory of that thread
	netID, mntID string  // the namespaces, as links in /proc name them
	netns        netns.NsHandle
	netlink      *netlink.Handle
	started      atomic.Int64 // for the names of log files
}

// AddHost makes a host and plugs its network cards in.
func (l *Lab) AddHost(name string, nics ...NIC) (*Host, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, err := l.addHost(name, nics)
	if err != nil {
		return nil, fmt.Errorf("add host %s: %w", name, err)
	}
	return h, nil
}

func (l *Lab) addHost(name string, nics []NIC) (*Host, error) {
	if l.closed {
		return nil, errClosed
	}
	for _, h := range append(slices.Clone(l.hosts), l.wires) {
		if h.name == name {
			return nil, errors.New("there is one of that name")
		}
	}
	h, err := l.newHost(name)
	if err != nil {
		return nil, err
	}
	for _, nic := range nics {
		if err := h.plugIn(nic); err != nil {
			return nil, errors.Join(fmt.Errorf("network card %s: %w", nic.Name, err), h.close())
		}
	}
	l.hosts = append(l.hosts, h)
	return h, l.writeNames()
}

// newHost makes the namespaces of a host, with lo up.
func (l *Lab) newHost(name string) (*Host, error) {
	h := &Host{lab: l, name: name, thread: newThread(), netns: netns.None()}
	if err := h.setUp(); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

func (h *Host) setUp() error {
	err := h.thread.do(func() (err error) {
		if err := h.lab.enterNew(h.name); err != nil {
			return err
		}
		h.proc = fmt.Sprintf("/proc/%d/task/%d", os.Getpid(), unix.Gettid())
		if h.netns, err = netns.Get(); err != nil {
			return fmt.Errorf("open the network namespace: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if h.netID, err = os.Readlink(filepath.Join(h.proc, "ns/net")); err != nil {
		return err
	}
	if h.mntID, err = os.Readlink(filepath.Join(h.proc, "ns/mnt")); err != nil {
		return err
	}
	if h.netlink, err = netlink.NewHandleAt(h.netns); err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	return h.LinkUp("lo")
}

// plugIn makes a pair of veth: one end is the card, the other one the port of
// the switch.
func (h *Host) plugIn(nic NIC) error {
	network, ok := h.lab.options.LANs[nic.LAN]
	if !ok {
		return fmt.Errorf("there is no LAN %q", nic.LAN)
	}
	if !network.Contains(nic.Address.Addr()) {
		return fmt.Errorf("%s is not in %s, the network of LAN %s", nic.Address, network, nic.LAN)
	}
	port := h.port(nic.Name)
	if len(port) >= unix.IFNAMSIZ {
		return fmt.Errorf("its port %s would have more than %d characters: take a shorter host name", port, unix.IFNAMSIZ-1)
	}
	pair := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: port}, PeerName: nic.Name, PeerNamespace: netlink.NsFd(h.netns),
	}
	if err := h.lab.wires.netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("add veth %s: %w", port, err)
	}
	h.nics = append(h.nics, nic)
	card, err := h.netlink.LinkByName(nic.Name)
	if err != nil {
		return err
	}
	address := &netlink.Addr{IPNet: &net.IPNet{
		IP: nic.Address.Addr().AsSlice(), Mask: net.CIDRMask(nic.Address.Bits(), nic.Address.Addr().BitLen()),
	}}
	if err := h.netlink.AddrAdd(card, address); err != nil {
		return fmt.Errorf("add address %s: %w", nic.Address, err)
	}
	return errors.Join(h.Heal(nic.Name), h.Plug(nic.Name), h.LinkUp(nic.Name))
}

// Name returns the host's name.
func (h *Host) Name() string { return h.name }

// Addr returns the address of a network card; the zero Addr if there is none.
func (h *Host) Addr(nic string) netip.Addr { return h.nic(nic).Address.Addr() }

func (h *Host) nic(name string) NIC {
	for _, n := range h.nics {
		if n.Name == name {
			return n
		}
	}
	return NIC{}
}

// MAC returns the hardware address of a network card.
func (h *Host) MAC(nic string) (net.HardwareAddr, error) {
	card, err := h.netlink.LinkByName(nic)
	if err != nil {
		return nil, fmt.Errorf("find %s of %s: %w", nic, h.name, err)
	}
	return card.Attrs().HardwareAddr, nil
}

// Bound tells whether the kernel has an address on a network card.
func (h *Host) Bound(nic string, address netip.Addr) (bool, error) {
	card, err := h.netlink.LinkByName(nic)
	if err != nil {
		return false, fmt.Errorf("find %s of %s: %w", nic, h.name, err)
	}
	bound, err := h.netlink.AddrList(card, netlink.FAMILY_ALL)
	if err != nil {
		return false, fmt.Errorf("list the addresses of %s on %s: %w", nic, h.name, err)
	}
	return slices.ContainsFunc(bound, func(a netlink.Addr) bool { return a.IP.Equal(address.AsSlice()) }), nil
}

// Path returns where a file of the host, such as /run/nginx.pid, is found from
// outside. Links in it are followed outside.
func (h *Host) Path(file string) string { return filepath.Join(h.proc, "root", file) }

// WriteFile writes a file of the host; directories are made.
func (h *Host) WriteFile(file, content string) error {
	path := h.Path(file)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write %s on %s: %w", file, h.name, err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		return fmt.Errorf("write %s on %s: %w", file, h.name, err)
	}
	return nil
}

// Do runs f on a thread of its own inside the host: sockets that f opens, files
// that it reads and processes that it starts belong there. What f hands to
// other goroutines runs outside. Sockets stay in the host after f has returned.
func (h *Host) Do(f func() error) error {
	result := make(chan error, 1)
	onOwnThread(func() {
		if err := h.enter(); err != nil {
			result <- err
			return
		}
		result <- f()
	})
	return <-result
}

// Command returns a command that runs inside the host once it is started, in
// directory /, and is killed when ctx ends or the lab is closed. Its pid is that
// of the program.
func (h *Host) Command(ctx context.Context, argv ...string) *exec.Cmd {
	ctx, cancel := context.WithCancelCause(ctx)
	// Close finds who is in the host; this is for one that is about to enter.
	context.AfterFunc(h.lab.ctx, func() { cancel(errClosed) })
	var enter []string
	for flag, kind := range map[string]string{"--net": "net", "--uts": "uts", "--mount": "mnt"} {
		enter = append(enter, flag+"="+filepath.Join(h.proc, "ns", kind))
	}
	return exec.CommandContext(ctx, "nsenter", append(append(enter, "--"), argv...)...)
}

// Run runs a command to its end and returns its stdout. Where it fails, the
// error carries its stderr.
func (h *Host) Run(ctx context.Context, argv ...string) (string, error) {
	cmd := h.Command(ctx, argv...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %s: %w: %s", h.name, strings.Join(argv, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Start runs a command in the background, in directory /, with its output in a
// log file below the lab's directory, until it ends, is stopped, or the lab is
// closed.
func (h *Host) Start(argv ...string) (*Process, error) {
	program := filepath.Base(argv[0])
	log := filepath.Join(h.lab.dir, "log", fmt.Sprintf("%s-%s-%d.log", h.name, program, h.started.Add(1)))
	cmd := exec.Command(argv[0], argv[1:]...) // the thread is in the host already
	cmd.Dir = "/"
	return startProcess(h.thread, program+" on "+h.name, log, cmd)
}

// close ends everything in the host and lets its namespaces go.
func (h *Host) close() error {
	var err error
	if h.netID != "" && h.mntID != "" {
		err = h.killAll()
	}
	h.thread.close()
	if h.netlink != nil {
		h.netlink.Close()
	}
	if h.netns.IsOpen() {
		err = errors.Join(err, h.netns.Close())
	}
	return err
}
