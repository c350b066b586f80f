package lab

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// A client hears who serves and where, over every protocol and family; several
// times on one flow, from the address and port that it wants; and is refused when
// nobody serves any more.
func TestKernelNameServer(t *testing.T) {
	Require(t)
	l, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	hosts, err := l.AddNodes("node02", "client")
	if err != nil {
		t.Fatal(err)
	}
	server, client := hosts[0], hosts[1]
	six := netip.MustParsePrefix("2001:db8::12/64")
	if err := errors.Join(server.BindAddress("eth0", six), client.BindAddress("eth0", netip.MustParsePrefix("2001:db8::20/64"))); err != nil {
		t.Fatal(err)
	}
	names, err := NewNameServer(server, 80)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- names.Run(ctx) }()

	var flows []CallOptions
	for _, network := range []string{"tcp", "udp", "sctp"} {
		for _, from := range []netip.Addr{client.Addr("eth0"), netip.MustParseAddr("2001:db8::20")} {
			to := server.Addr("eth0")
			if from.Is6() {
				to = six.Addr()
			}
			flows = append(flows, CallOptions{Network: network, To: netip.AddrPortFrom(to, 80), From: netip.AddrPortFrom(from, 4000)})
		}
	}
	for _, o := range flows {
		call, err := client.Call(o)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			reply, err := call.Ask()
			if want := (Reply{"node02", o.To}); err != nil || reply != want && o.Network != "sctp" || reply.Server != want.Server {
				t.Errorf("%+v: %+v, %v; want %+v", o, reply, err, want)
			}
		}
		call.Close()
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, o := range flows {
		o.From = netip.AddrPort{}
		call, err := client.Call(o)
		if err == nil {
			_, err = call.Ask()
			call.Close()
		}
		if !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%+v: %v; want a refusal", o, err)
		}
	}
}
