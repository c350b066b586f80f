package realserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/fence"
)

// newNamespace moves the test's goroutine into a fresh network namespace. Its
// thread is never unlocked, so it ends with the test and the namespace with it.
func newNamespace(t *testing.T) netns.NsHandle {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIP: network namespaces need root")
	}
	runtime.LockOSThread()
	ns, err := netns.New()
	must(t, err)
	t.Cleanup(func() { ns.Close() })
	ip(t, "link set lo up")
	return ns
}

// ip runs the command in the thread's namespace.
func ip(t *testing.T, args string) string {
	t.Helper()
	out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %s: %v\n%s", args, err, out)
	}
	return string(out)
}

func write(t *testing.T, name, value string) {
	t.Helper()
	must(t, os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0))
}

// lan is a client and a real server on one wire; the test is in the real server.
type lan struct {
	client, server netns.NsHandle
	mac            net.HardwareAddr // the real server's
	kernel         *fence.Netlink
}

func newLAN(t *testing.T) *lan {
	t.Helper()
	l := &lan{client: newNamespace(t)}
	l.server = newNamespace(t)
	ip(t, "link add eth0 type veth peer name client0")
	peer, err := netlink.LinkByName("client0")
	must(t, err)
	must(t, netlink.LinkSetNsFd(peer, int(l.client)))
	ip(t, "link set eth0 up")
	ip(t, "address add 192.168.150.12/24 dev eth0")
	l.in(t, l.client, func() {
		ip(t, "link set client0 up")
		ip(t, "address add 192.168.150.1/24 dev client0")
	})
	l.kernel, err = fence.NewNetlink()
	must(t, err)
	t.Cleanup(l.kernel.Close)
	link, err := l.kernel.Link("eth0")
	must(t, err)
	l.mac = link.MAC
	// Another machine's defaults must not matter.
	for _, iface := range []string{"all", "eth0", "lo"} {
		write(t, conf(iface, arpIgnore), "0")
		write(t, conf(iface, arpAnnounce), "0")
	}
	return l
}

// in runs f in a namespace and comes back.
func (l *lan) in(t *testing.T, ns netns.NsHandle, f func()) {
	t.Helper()
	must(t, netns.Set(ns))
	defer func() { must(t, netns.Set(l.server)) }()
	f()
}

func (l *lan) agent(t *testing.T, state string) *Agent {
	t.Helper()
	a, err := New(Config{Logger: zap.NewNop(), Kernel: l.kernel, VIPs: []netip.Addr{vipA, vipB}, Label: "lo:1", Interface: "eth0", StatePath: state, Interval: 10 * time.Millisecond})
	must(t, err)
	t.Cleanup(func() { a.Close() })
	return a
}

// ask sends one ARP request for address, by no cache, and reports whether
// the real server answered. It is called in the client.
func (l *lan) ask(t *testing.T, address netip.Addr) bool {
	t.Helper()
	out, err := exec.Command("arping", "-D", "-c", "1", "-w", "1", "-I", "client0", address.String()).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("arping: %v", err)
	}
	answered := bytes.Contains(bytes.ToLower(out), []byte(l.mac.String()))
	if !answered && !bytes.Contains(out, []byte("Received 0 ")) {
		t.Fatalf("arping: %s", out)
	}
	return answered
}

// The wire: ARP for the VIP is not answered, nor is the VIP learned from
// requests, while a connection that is delivered to the MAC is accepted.
func TestKernelWire(t *testing.T) {
	l := newLAN(t)
	a := l.agent(t, filepath.Join(t.TempDir(), "rs.json"))
	ip(t, "address add "+vipA.String()+"/32 dev lo")
	l.in(t, l.client, func() {
		if !l.ask(t, vipA) {
			t.Error("the test lacks its premise: without the sysctls a VIP on lo is answered")
		}
	})
	must(t, a.Up())
	server, err := net.Listen("tcp4", "0.0.0.0:80")
	must(t, err)
	defer server.Close()
	go func() {
		for c, err := server.Accept(); err == nil; c, err = server.Accept() {
			fmt.Fprint(c, c.LocalAddr())
			c.Close()
		}
	}()
	l.in(t, l.client, func() {
		for _, vip := range []netip.Addr{vipA, vipB} {
			if l.ask(t, vip) {
				t.Errorf("ARP for %v is answered", vip)
			}
		}
		if !l.ask(t, netip.MustParseAddr("192.168.150.12")) {
			t.Error("ARP for the real server's own address is not answered")
		}
		ip(t, fmt.Sprintf("neigh replace %v lladdr %v dev client0", vipA, l.mac))
		frames := listenARP(t, "client0")
		c, err := net.DialTimeout("tcp4", vipA.String()+":80", 3*time.Second)
		must(t, err)
		var got [64]byte
		n, _ := c.Read(got[:])
		c.Close()
		if string(got[:n]) != vipA.String()+":80" {
			t.Errorf("the real server accepted for %s", got[:n])
		}
		// To answer, it had to ask for the client: in its own name, not the VIP's.
		senders := senders(t, frames)
		if len(senders) == 0 || strings.Contains(fmt.Sprint(senders), vipA.String()) {
			t.Errorf("senders of ARP: %v", senders)
		}
	})
}

// listenARP opens a packet socket on an interface of the thread's namespace.
func listenARP(t *testing.T, iface string) int {
	t.Helper()
	const arp = unix.ETH_P_ARP<<8&0xff00 | unix.ETH_P_ARP>>8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, arp)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	link, err := netlink.LinkByName(iface)
	must(t, err)
	must(t, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: arp, Ifindex: link.Attrs().Index}))
	return fd
}

// senders returns the sender addresses of what a packet socket has received.
func senders(t *testing.T, fd int) []netip.Addr {
	t.Helper()
	var all []netip.Addr
	for {
		var f [64]byte
		n, _, err := unix.Recvfrom(fd, f[:], 0)
		if errors.Is(err, unix.EAGAIN) {
			return all
		}
		must(t, err)
		if n >= 42 {
			all = append(all, netip.AddrFrom4([4]byte(f[28:32])))
		}
	}
}

// everything returns all values below net/ipv4/conf and all addresses.
func everything(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{"addresses": ip(t, "-4 address show")}
	root := "/proc/sys/net/ipv4/conf"
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if data, err := os.ReadFile(path); err == nil { // some can only be written
			all[path] = string(data)
		}
		return nil
	}))
	return all
}

func TestKernelUpAndDown(t *testing.T) {
	l := newLAN(t)
	write(t, "conf/all/arp_announce", "1")
	write(t, "conf/eth0/arp_ignore", "3")
	before := everything(t)
	a := l.agent(t, filepath.Join(t.TempDir(), "rs.json"))
	must(t, a.Up())
	shown := ip(t, "-4 address show dev lo")
	for _, vip := range []netip.Addr{vipA, vipB} {
		if !strings.Contains(shown, "inet "+vip.String()+"/32 scope global lo:1") {
			t.Errorf("ip address shows\n%s", shown)
		}
	}
	problems, err := a.Check()
	if err != nil || len(problems) != 0 {
		t.Errorf("problems %v, %v", problems, err)
	}
	up := everything(t)
	must(t, a.Up())
	wantSame(t, up, everything(t))
	must(t, a.Down())
	wantSame(t, before, everything(t))
}

// Run is called on another thread, in another namespace: what New opened decides.
func TestKernelRunKeeps(t *testing.T) {
	l := newLAN(t)
	a := l.agent(t, filepath.Join(t.TempDir(), "rs.json"))
	if _, err := a.readSysctl("conf/eth0/arp_ignore"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	wait := func() {
		t.Helper()
		limit := time.Now().Add(20 * time.Second)
		for {
			select {
			case err := <-done:
				t.Fatalf("Run ended: %v", err)
			default:
			}
			problems, err := a.Check()
			must(t, err)
			if len(problems) == 0 {
				return
			}
			if time.Now().After(limit) {
				t.Fatalf("not put right: %v", problems)
			}
			runtime.Gosched()
		}
	}
	wait()
	write(t, "conf/all/arp_ignore", "0")
	ip(t, "address del "+vipB.String()+"/32 dev lo")
	wait()
	ip(t, "link del eth0")
	ip(t, "link add eth0 type veth peer name client1") // with the values of a new interface
	ip(t, "link set client1 up")
	ip(t, "link set eth0 up")
	wait()
	cancel()
	must(t, <-done)
	must(t, a.Down())
}

// A /proc/sys that cannot be written, as in most containers.
func TestKernelReadOnly(t *testing.T) {
	l := newLAN(t)
	dir := t.TempDir()
	must(t, unix.Unshare(unix.CLONE_NEWNS)) // this thread's, which ends with the test
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(t, unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""))
	must(t, unix.Mount("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
	before := everything(t)
	err := l.agent(t, filepath.Join(dir, "rs.json")).Up()
	if !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), "set net/ipv4/conf/all/arp_ignore to 1") || !strings.Contains(err.Error(), "docker run --sysctl") {
		t.Errorf("error %v", err)
	}
	wantSame(t, before, everything(t))
}

// Without rights nothing is changed, and the error says what is missing.
func TestKernelNoRights(t *testing.T) {
	l := newLAN(t)
	before := everything(t)
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	must(t, unix.Capget(&hdr, &data[0]))
	a := l.agent(t, filepath.Join(t.TempDir(), "rs.json"))
	full := data
	data[0].Effective = 0 // this thread's
	must(t, unix.Capset(&hdr, &data[0]))
	err := a.Up()
	must(t, unix.Capset(&hdr, &full[0]))
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "run as root") {
		t.Errorf("error %v", err)
	}
	wantSame(t, before, everything(t))
}
