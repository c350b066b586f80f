package nft

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

const tableName = "zklvs"

var table = &nftables.Table{Name: tableName, Family: nftables.TableFamilyNetdev}

// The sets, of IPv4 and of IPv6 addresses each.
var (
	setGated = pair("gated", nftables.TypeIPAddr, nftables.TypeIP6Addr)
	setOpen  = pair("open", nftables.TypeIPAddr, nftables.TypeIP6Addr)
	// setFrom holds source MAC and destination, setLeave the source, of packets
	// that Exempt lets pass.
	setFrom  = pair("exempt_in", concat(nftables.TypeEtherAddr, nftables.TypeIPAddr), concat(nftables.TypeEtherAddr, nftables.TypeIP6Addr))
	setLeave = pair("exempt_out", nftables.TypeIPAddr, nftables.TypeIP6Addr)
	// setSelf holds each gated address twice, for ARP in the name of its target: the
	// comparison of two fields with each other needs Linux 6.13 otherwise.
	setSelf = &nftables.Set{Table: table, Name: "announced4", KeyType: concat(nftables.TypeIPAddr, nftables.TypeIPAddr)}
)

// family is the index into a pair.
type family int

const (
	v4 family = iota
	v6
)

var families = [...]family{v4, v6}

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return v4
	}
	return v6
}

// pair makes the descriptions of two sets.
func pair(name string, types ...nftables.SetDatatype) (out [2]*nftables.Set) {
	for f, t := range types {
		out[f] = &nftables.Set{Table: table, Name: fmt.Sprintf("%s%d", name, 4+2*f), KeyType: t}
	}
	return out
}

func concat(types ...nftables.SetDatatype) nftables.SetDatatype {
	t, err := nftables.ConcatSetType(types...)
	if err != nil {
		panic(err) // more types than fit
	}
	return t
}

// sets returns copies, each with a number of its own in the batch: the
// library would count in a global variable. Open elements get a timeout even if
// theirs were forgotten: without one they would stay.
func sets() (out []*nftables.Set) {
	for _, f := range families {
		open := *setOpen[f]
		open.HasTimeout, open.Timeout = true, minOpen
		out = append(out, copyOf(setGated[f]), &open, copyOf(setFrom[f]), copyOf(setLeave[f]))
	}
	out = append(out, copyOf(setSelf))
	for i, s := range out {
		s.ID = uint32(i + 1)
	}
	return out
}

func copyOf(s *nftables.Set) *nftables.Set {
	c := *s
	return &c
}

func element(a netip.Addr) nftables.SetElement { return nftables.SetElement{Key: a.AsSlice()} }

func selfElement(a netip.Addr) nftables.SetElement {
	return nftables.SetElement{Key: append(a.AsSlice(), a.AsSlice()...)}
}

// fromElement pads the MAC to whole registers of 4 bytes.
func fromElement(mac net.HardwareAddr, a netip.Addr) nftables.SetElement {
	key := append(append([]byte{}, mac...), 0, 0)
	return nftables.SetElement{Key: append(key, a.AsSlice()...)}
}

// builder queues the rules of one batch.
type builder struct{ c *conn }

func (b builder) chain(name string) *nftables.Chain {
	return &nftables.Chain{Name: name, Table: table}
}

func (b builder) rule(chain string, exprs ...[]expr.Any) {
	var all []expr.Any
	for _, e := range exprs {
		all = append(all, e...)
	}
	b.c.AddRule(&nftables.Rule{Table: table, Chain: b.chain(chain), Exprs: all})
}

// The registers: the first of 16 bytes, and the same as registers of 4 bytes
// (include/uapi/linux/netfilter/nf_tables.h), for concatenated keys.
const (
	register1  = unix.NFT_REG_1
	register32 = unix.NFT_REG32_00
)

func network(offset, size uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: register1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size}}
}

func transport(offset, size uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: register1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: size}}
}

// both loads what concatenated keys consist of.
func both(base1 expr.PayloadBase, offset1, size1 uint32, offset2, size2 uint32) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: register32, Base: base1, Offset: offset1, Len: size1},
		&expr.Payload{DestRegister: register32 + (size1+3)/4, Base: expr.PayloadBaseNetworkHeader, Offset: offset2, Len: size2},
	}
}

func meta(key expr.MetaKey) []expr.Any { return []expr.Any{&expr.Meta{Key: key, Register: register1}} }

func is(data ...byte) []expr.Any {
	return []expr.Any{&expr.Cmp{Op: expr.CmpOpEq, Register: register1, Data: data}}
}

func is16(n uint16) []expr.Any { return is(binary.BigEndian.AppendUint16(nil, n)...) }

func in(s *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: register1, SetName: s.Name}}
}

func inConcat(s *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: register32, SetName: s.Name}}
}

var (
	accept = []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} // of this table: others' chains follow
	drop   = []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}
)

func then(chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}}
}

// protocols by which a frame is sent to a chain of its own.
var protocols = []struct {
	number uint16
	name   string
}{{unix.ETH_P_IP, "ip4"}, {unix.ETH_P_ARP, "arp"}, {unix.ETH_P_IPV6, "ip6"}}

var tags = []uint16{unix.ETH_P_8021Q, unix.ETH_P_8021AD, 0x9100} // the last is older than 802.1ad

// sides: where a chain looks. A tag in band moves what follows by 4 bytes.
var sides = []struct {
	direction string
	tagged    string
	offset    uint32
}{{"in", "", 0}, {"in", "_tagged", 4}, {"out", "", 0}, {"out", "_tagged", 4}}

// shared queues the chains that all interfaces share.
func (b builder) shared() {
	for _, s := range sides {
		b.c.AddChain(b.chain(s.direction + s.tagged))
		for _, p := range append(protocols, struct {
			number uint16
			name   string
		}{0, "nd"}) {
			b.c.AddChain(b.chain(s.direction + "_" + p.name + s.tagged))
		}
	}
	for _, s := range sides {
		b.dispatch(s.direction, s.tagged)
		b.arp(s.direction, s.tagged, s.offset)
		b.ip(v4, s.direction, s.tagged, s.offset)
		b.ip(v6, s.direction, s.tagged, s.offset)
		b.nd(s.direction, s.tagged, s.offset)
	}
}

// dispatch: the type of what follows a tag stands two bytes behind it.
func (b builder) dispatch(direction, tagged string) {
	protocol := meta(expr.MetaKeyPROTOCOL)
	if tagged != "" {
		protocol = network(2, 2)
	}
	for _, p := range protocols {
		b.rule(direction+tagged, protocol, is16(p.number), then(direction+"_"+p.name+tagged))
	}
	if tagged != "" {
		return
	}
	for _, t := range tags {
		b.rule(direction, protocol, is16(t), then(direction+"_tagged"))
	}
}

// arp (RFC 826): in whose name out, for which address in. What comes in in the
// VIP's own name is the holder's announcement.
func (b builder) arp(direction, tagged string, o uint32) {
	chain := direction + "_arp" + tagged
	for _, hardware := range []uint32{6, 20} { // the hardware address's length: Ethernet, InfiniBand
		kind := func() []expr.Any {
			return append(network(o+2, 4), is(unix.ETH_P_IP>>8, unix.ETH_P_IP&0xff, byte(hardware), 4)...)
		}
		sender, target := o+8+hardware, o+12+2*hardware
		address := sender
		if direction == "in" {
			address = target
			b.rule(chain, kind(), both(expr.PayloadBaseNetworkHeader, sender, 4, target, 4), inConcat(setSelf), accept)
		}
		b.rule(chain, kind(), network(address, 4), in(setOpen[v4]), accept)
		b.rule(chain, kind(), network(address, 4), in(setGated[v4]), drop)
	}
}

// ip: to whom in, from whom out (RFC 791, 3.1; RFC 8200, 3); then, for IPv6, ND.
func (b builder) ip(f family, direction, tagged string, o uint32) {
	name, size, source, destination := "_ip4", uint32(4), o+12, o+16
	pass := accept
	if f == v6 {
		name, size, source, destination = "_ip6", 16, o+8, o+24
		pass = then(direction + "_nd" + tagged)
	}
	chain := direction + name + tagged
	if direction == "in" {
		b.rule(chain, network(destination, size), in(setOpen[f]), pass)
		b.rule(chain, both(expr.PayloadBaseLLHeader, 6, 6, destination, size), inConcat(setFrom[f]), pass)
		b.rule(chain, network(destination, size), in(setGated[f]), drop)
	} else {
		b.rule(chain, network(source, size), in(setOpen[f]), pass)
		b.rule(chain, network(source, size), in(setLeave[f]), pass)
		b.rule(chain, network(source, size), in(setGated[f]), drop)
	}
	b.rule(chain, pass)
}

// The types of RFC 4861, 4.3 and 4.4.
const (
	neighborSolicit   = 135
	neighborAdvertise = 136
)

// nd: solicitations for a VIP in, advertisements of it out, and out also the
// solicitations of duplicate address detection (RFC 4862, 5.4.2).
func (b builder) nd(direction, tagged string, o uint32) {
	chain := direction + "_nd" + tagged
	icmp, at := func(kind byte) []expr.Any { // the kernel has parsed it, extension headers and all
		return append(append(append(meta(expr.MetaKeyL4PROTO), is(unix.IPPROTO_ICMPV6)...), transport(0, 1)...), is(kind)...)
	}, transport(8, 16)
	if tagged != "" {
		icmp, at = func(kind byte) []expr.Any {
			return append(append(append(network(o+6, 1), is(unix.IPPROTO_ICMPV6)...), network(o+40, 1)...), is(kind)...)
		}, network(o+48, 16)
	}
	if direction == "in" {
		b.rule(chain, icmp(neighborSolicit), at, in(setOpen[v6]), accept)
		b.rule(chain, icmp(neighborSolicit), at, in(setGated[v6]), drop)
		return
	}
	probe := append(network(o+8, 16), is(make([]byte, 16)...)...) // from the unspecified address
	b.rule(chain, icmp(neighborAdvertise), at, in(setOpen[v6]), accept)
	b.rule(chain, icmp(neighborAdvertise), at, in(setGated[v6]), drop)
	b.rule(chain, icmp(neighborSolicit), probe, at, in(setOpen[v6]), accept)
	b.rule(chain, icmp(neighborSolicit), probe, at, in(setGated[v6]), drop)
}

// hooks of an interface.
var hooks = []struct {
	direction string // of the chain that it leads to
	prefix    string // of the base chain's name; the interface's number follows
	hook      *nftables.ChainHook
}{
	{"out", "egress_", nftables.ChainHookEgress}, // first: it alone stops every answer
	{"in", "ingress_", nftables.ChainHookIngress},
}

// base queues the base chain of one hook of one interface.
func (b builder) base(h int, index int, device string) {
	policy := nftables.ChainPolicyAccept
	name := baseName(h, index)
	b.c.AddChain(&nftables.Chain{
		Name: name, Table: table, Type: nftables.ChainTypeFilter, Hooknum: hooks[h].hook,
		Priority: nftables.ChainPriorityFirst, Policy: &policy, Device: device,
	})
	b.rule(name, then(hooks[h].direction))
}

func baseName(h, index int) string { return fmt.Sprintf("%s%d", hooks[h].prefix, index) }
