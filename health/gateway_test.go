package health

import (
	"context"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/zklvs/zklvs/internal/leaktest"
)

func TestARPPacket(t *testing.T) {
	hardware := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	got := hex.EncodeToString(arpPacket(hardware, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.254")))
	want := "0001" + "0800" + "06" + "04" + "0001" + "020000000001" + "0a000001" + "000000000000" + "0a0000fe"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestIsARPReply(t *testing.T) {
	us, gateway := net.HardwareAddr{2, 0, 0, 0, 0, 1}, netip.MustParseAddr("10.0.0.254")
	good := "0001" + "0800" + "06" + "04" + "0002" + "0200000000fe" + "0a0000fe" + "020000000001" + "0a000001"
	for _, tt := range []struct {
		name, old, new string
		want           bool
	}{
		{"reply", "", "", true},
		{"padded", "0a000001", "0a000001" + strings.Repeat("00", 18), true},
		{"request", "06040002", "06040001", false},
		{"from another", "0a0000fe", "0a0000fd", false},
		{"to another", "020000000001", "020000000002", false},
		{"cut off", "0a000001", "0a0000", false},
		{"not Ethernet", "00010800", "00060800", false},
		{"not IPv4", "00010800", "000186dd", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			packet, err := hex.DecodeString(strings.Replace(good, tt.old, tt.new, 1))
			if err != nil {
				t.Fatal(err)
			}
			if got := isARPReply(packet, gateway, us); got != tt.want {
				t.Errorf("%x: got %v", packet, got)
			}
		})
	}
}

func TestEchoReplyIsToldByItsToken(t *testing.T) {
	const token = 0x0102030405060708
	reply := echoRequest(token)
	if got, want := hex.EncodeToString(reply), "0800e0e3"+"07080000"+"0102030405060708"; got != want {
		t.Errorf("request %s, want %s", got, want)
	}
	if checksum(reply) != 0 {
		t.Errorf("checksum over the packet is %#x, want 0", checksum(reply))
	}
	if isEchoReply(reply, false, token) {
		t.Error("own request taken for a reply")
	}
	reply[0] = icmpEchoReply
	header := append([]byte{0x46}, make([]byte, 23)...) // 24 bytes: with an option
	for name, tt := range map[string]struct {
		packet []byte
		raw    bool
		token  uint64
		want   bool
	}{
		"ping socket":        {reply, false, token, true},
		"raw socket":         {append(header, reply...), true, token, true},
		"other token":        {reply, false, token + 1, false},
		"cut off":            {reply[:15], false, token, false},
		"header cut off":     {header[:19], true, token, false},
		"nothing":            {nil, true, token, false},
		"header of no bytes": {append(make([]byte, 20), reply...), true, token, false},
	} {
		if got := isEchoReply(tt.packet, tt.raw, tt.token); got != tt.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func FuzzPackets(f *testing.F) {
	f.Add([]byte{0x45, 19: 0, 20: 0})
	f.Fuzz(func(_ *testing.T, packet []byte) { // must not panic
		isEchoReply(packet, true, 1)
		isEchoReply(packet, false, 1)
		isARPReply(packet, netip.MustParseAddr("10.0.0.1"), net.HardwareAddr{1, 2, 3, 4, 5, 6})
	})
}

// link is a cable between this thread, which has moved into a network
// namespace of its own, and a gateway in another: lan0 here, lan0 there.
type link struct {
	t             *testing.T
	here, gateway *netlink.Handle
	hereNS, gwNS  netns.NsHandle
}

func newLink(t *testing.T) *link {
	t.Helper()
	needRoot(t)
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	l := &link{t: t}
	l.gwNS = mustNS(t)
	l.hereNS = mustNS(t)
	l.gateway, l.here = mustHandle(t, l.gwNS), mustHandle(t, l.hereNS)
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: "lan0"},
		PeerName:      "lan0",
		PeerNamespace: netlink.NsFd(l.gwNS),
	}
	if err := l.here.LinkAdd(veth); err != nil {
		t.Fatalf("add veth: %v", err)
	}
	l.up(l.here)
	l.up(l.gateway)
	return l
}

func mustNS(t *testing.T) netns.NsHandle {
	t.Helper()
	ns, err := netns.New()
	if err != nil {
		t.Fatalf("new network namespace: %v", err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

func mustHandle(t *testing.T, ns netns.NsHandle) *netlink.Handle {
	t.Helper()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func (l *link) lan0(h *netlink.Handle) netlink.Link {
	l.t.Helper()
	lan0, err := h.LinkByName("lan0")
	if err != nil {
		l.t.Fatal(err)
	}
	return lan0
}

func (l *link) up(h *netlink.Handle) {
	l.t.Helper()
	if err := h.LinkSetUp(l.lan0(h)); err != nil {
		l.t.Fatal(err)
	}
}

func (l *link) down(h *netlink.Handle) {
	l.t.Helper()
	if err := h.LinkSetDown(l.lan0(h)); err != nil {
		l.t.Fatal(err)
	}
}

func (l *link) address(h *netlink.Handle, prefix string) {
	l.t.Helper()
	addr, err := netlink.ParseAddr(prefix)
	if err == nil {
		err = h.AddrAdd(l.lan0(h), addr)
	}
	if err != nil {
		l.t.Fatalf("address %s: %v", prefix, err)
	}
}

// dropPings makes the gateway deaf to echo requests.
func (l *link) dropPings() {
	l.t.Helper()
	err := errors.Join(
		netns.Set(l.gwNS),
		os.WriteFile("/proc/sys/net/ipv4/icmp_echo_ignore_all", []byte("1"), 0o600),
		netns.Set(l.hereNS),
	)
	if err != nil {
		l.t.Fatal(err)
	}
}

// learnt returns what the gateway's neighbor cache holds.
func (l *link) learnt() map[string]bool {
	l.t.Helper()
	neighbors, err := l.gateway.NeighList(l.lan0(l.gateway).Attrs().Index, netlink.FAMILY_V4)
	if err != nil {
		l.t.Fatal(err)
	}
	out := make(map[string]bool)
	for _, n := range neighbors {
		out[n.IP.String()] = true
	}
	return out
}

// answers asks more than once: a link that has just come up loses packets.
func (l *link) answers(kind Kind, gateway string) {
	l.t.Helper()
	target := gatewayTarget(kind, gateway, "lan0")
	var last error
	defer func() {
		if l.t.Failed() {
			l.t.Log("last answer:", last)
		}
	}()
	waitUntil(l.t, target.String()+" answers", func() bool {
		ctx, cancel := context.WithTimeout(l.t.Context(), 500*time.Millisecond)
		defer cancel()
		last = GatewayProber{}.Probe(ctx, target)
		return last == nil
	})
}

func (l *link) silent(kind Kind, gateway string) {
	l.t.Helper()
	target := gatewayTarget(kind, gateway, "lan0")
	target.Timeout = 200 * time.Millisecond
	assertProbe(l.t, GatewayProber{}, target, ": no reply within 200ms", true)
}

// fails is for errors whose text is the kernel's choice; they must speak
// against the gateway.
func (l *link) fails(kind Kind, gateway string) {
	l.t.Helper()
	target := gatewayTarget(kind, gateway, "lan0")
	target.Timeout = 200 * time.Millisecond
	ctx, cancel := context.WithTimeout(l.t.Context(), target.Timeout)
	defer cancel()
	if err := (GatewayProber{}).Probe(ctx, target); err == nil || errors.Is(err, ErrInconclusive) {
		l.t.Errorf("%s: error %v, want a failure that counts", target, err)
	}
}

const gatewayIP = "10.9.0.254"

func TestKernelGatewayAnswers(t *testing.T) {
	leaktest.Check(t)
	l := newLink(t)
	l.address(l.here, "10.9.0.1/24")
	l.address(l.gateway, gatewayIP+"/24")
	l.answers(ICMP, gatewayIP)
	l.answers(ARP, gatewayIP)
	l.silent(ARP, "10.9.0.253")
	l.silent(ICMP, "10.9.0.253")
}

func TestKernelGatewayThatDropsPings(t *testing.T) {
	l := newLink(t)
	l.address(l.here, "10.9.0.1/24")
	l.address(l.gateway, gatewayIP+"/24")
	l.dropPings()
	l.silent(ICMP, gatewayIP)
	l.answers(ARP, gatewayIP)
}

func TestKernelGatewayGone(t *testing.T) {
	leaktest.Check(t)
	l := newLink(t)
	l.address(l.here, "10.9.0.1/24")
	l.address(l.gateway, gatewayIP+"/24")
	l.answers(ARP, gatewayIP)
	l.down(l.gateway) // and with it the carrier here
	l.fails(ARP, gatewayIP)
	l.fails(ICMP, gatewayIP)
	l.up(l.gateway)
	l.answers(ARP, gatewayIP)
	l.down(l.here)
	target := gatewayTarget(ARP, gatewayIP, "lan0")
	target.Timeout = patience
	assertProbe(t, GatewayProber{}, target, "network is down", false)
}

// ARP needs neither route nor address, and a director must not put its VIP into
// the gateway's cache by asking in its name.
func TestKernelARPNeedsNoAddressAndSparesTheVIP(t *testing.T) {
	l := newLink(t)
	l.address(l.gateway, gatewayIP+"/24")
	l.answers(ARP, gatewayIP)
	l.address(l.here, "10.9.0.100/32")
	l.answers(ARP, gatewayIP)
	if got := l.learnt(); got["10.9.0.100"] {
		t.Errorf("the gateway has learnt the VIP: %v", got)
	}
	l.address(l.here, "10.9.0.1/24")
	l.answers(ARP, gatewayIP)
	if got := l.learnt(); !got["10.9.0.1"] || got["10.9.0.100"] {
		t.Errorf("the gateway has learnt %v, want the director's own address", got)
	}
}

func TestKernelGatewayInterfaceErrors(t *testing.T) {
	newLink(t)
	for name, tt := range map[string]struct {
		kind Kind
		link string
		want string
	}{
		"arp on none":     {ARP, "lan9", "arp 10.9.0.254 on lan9: interface lan9: "},
		"icmp on none":    {ICMP, "lan9", "icmp 10.9.0.254 on lan9: bind to interface lan9: no such device"},
		"arp on loopback": {ARP, "lo", "has no Ethernet address"},
	} {
		t.Run(name, func(t *testing.T) {
			target := gatewayTarget(tt.kind, gatewayIP, tt.link)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := (GatewayProber{}).Probe(ctx, target); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}
