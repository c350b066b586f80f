package gate

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/internal/logfield"
)

// The names of maps and programs in the kernel (bpftool shows them).
const (
	addressesName = "zklvs_vips"
	slotsName     = "zklvs_deadlines"
	programName   = "zklvs_gate"
)

// loaded is what of the gate is in the kernel, before it is attached anywhere.
type loaded struct {
	addresses *ebpf.Map // 16 bytes, IPv4 as ::ffff:a.b.c.d, to the slot's number
	slots     *ebpf.Map
	shared    *shared
	programs  [2][2]*ebpf.Program // by direction and framing
	ids       [2][2]int
}

// load makes the maps and loads the programs. Where memory for maps is counted
// against RLIMIT_MEMLOCK (kernels before 5.11) the limit is raised.
func load(capacity int) (*loaded, error) {
	l, err := tryLoad(capacity)
	if errors.Is(err, unix.EPERM) {
		unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
		if unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unlimited) == nil {
			l, err = tryLoad(capacity)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSupported, explain(err))
	}
	return l, nil
}

func tryLoad(capacity int) (*loaded, error) {
	l := &loaded{}
	err := l.fill(capacity)
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *loaded) fill(capacity int) (err error) {
	l.addresses, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: addressesName, Type: ebpf.Hash, KeySize: 16, ValueSize: 4, MaxEntries: uint32(capacity),
	})
	if err != nil {
		return fmt.Errorf("make the map of addresses: %w", err)
	}
	l.slots, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: slotsName, Type: ebpf.Array, KeySize: 4, ValueSize: uint32(slotSize), MaxEntries: uint32(capacity),
		Flags: unix.BPF_F_MMAPABLE,
	})
	if err != nil {
		return fmt.Errorf("make the map of deadlines: %w", err)
	}
	if l.shared, err = mapSlots(l.slots); err != nil {
		return err
	}
	for _, d := range []direction{ingress, egress} {
		for _, f := range []framing{ethernet, network} {
			if err := l.loadProgram(d, f); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *loaded) loadProgram(d direction, f framing) error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: programName, Type: ebpf.SchedCLS, License: "Apache-2.0",
		Instructions: instructions(d, f, l.addresses, l.slots),
	})
	if err != nil {
		return fmt.Errorf("load the program: %w", err)
	}
	l.programs[d][f] = p
	info, err := p.Info()
	if err != nil {
		return fmt.Errorf("ask for the program's number: %w", err)
	}
	id, ok := info.ID()
	if !ok {
		return errors.New("the program has no number: Linux 5.8 or later is needed")
	}
	l.ids[d][f] = int(id)
	return nil
}

// close releases this process's references.
func (l *loaded) close() {
	for _, d := range l.programs {
		for _, p := range d {
			p.Close() // nil is allowed
		}
	}
	for _, m := range []*ebpf.Map{l.addresses, l.slots} {
		if m != nil {
			m.Close()
		}
	}
}

// explain adds what an operator can do.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: needs CAP_NET_ADMIN with CAP_BPF, or CAP_SYS_ADMIN (run as root)", err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, ebpf.ErrNotSupported):
		return fmt.Errorf("%w: Linux 5.8 or later is needed", err)
	case errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("%w: this kernel is built without CONFIG_BPF_SYSCALL", err)
	}
	return err
}

// inherit gates what the filters of an earlier life gate, so that replacing
// them opens nothing.
func (g *Gate) inherit() error {
	all, err := links(g.netlink)
	if err != nil {
		return err
	}
	seen := map[int]bool{}
	for _, l := range all {
		for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
			f, err := filters(g.netlink, l, parent)
			if err != nil || f.ours == nil || seen[f.ours.Id] {
				continue // an interface that vanished, or cannot carry filters
			}
			seen[f.ours.Id] = true
			addrs, err := addressesOf(ebpf.ProgramID(f.ours.Id))
			if err != nil {
				g.log.Warn("cannot read what an earlier life's gate gates: it ends with the next attachment",
					zap.String(logfield.Interface, l.Attrs().Name), zap.Error(err))
				continue
			}
			if err := g.Add(addrs...); err != nil {
				return fmt.Errorf("take over from an earlier life: %w", err)
			}
		}
	}
	return nil
}

// addressesOf reads the map of addresses of a program in the kernel.
func addressesOf(id ebpf.ProgramID) ([]netip.Addr, error) {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return nil, fmt.Errorf("open program %d: %w", id, explain(err))
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return nil, fmt.Errorf("ask about program %d: %w", id, err)
	}
	ids, _ := info.MapIDs()
	for _, id := range ids {
		addrs, ok, err := keysOf(id)
		if err != nil || ok {
			return addrs, err
		}
	}
	return nil, fmt.Errorf("program %d has no map %s: of another version", id, addressesName)
}

// keysOf reads a map if it is one of addresses.
func keysOf(id ebpf.MapID) (addrs []netip.Addr, ok bool, err error) {
	m, err := ebpf.NewMapFromID(id)
	if err != nil {
		return nil, false, fmt.Errorf("open map %d: %w", id, explain(err))
	}
	defer m.Close()
	info, err := m.Info()
	if err != nil || !strings.HasPrefix(info.Name, addressesName) || m.KeySize() != 16 {
		return nil, false, err
	}
	var key [16]byte
	value := make([]byte, m.ValueSize())
	all := m.Iterate()
	for all.Next(&key, &value) {
		addrs = append(addrs, netip.AddrFrom16(key).Unmap())
	}
	return addrs, true, all.Err()
}
