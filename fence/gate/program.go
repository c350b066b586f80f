package gate

import (
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// direction is a hook of clsact.
type direction int

const (
	ingress direction = iota
	egress
)

// framing is where the program finds the network header. Interfaces of type
// ARPHRD_ETHER carry an Ethernet header, whose type field is what the receiver
// believes; of all others only skb->protocol and the network header are known.
type framing int

const (
	ethernet framing = iota
	network
)

// What the program returns (include/uapi/linux/pkt_cls.h). TC_ACT_UNSPEC asks
// the next filter, as if ours were not there; TC_ACT_OK would end the list and
// hide the filters of others.
const (
	actUnspec = -1
	actShot   = 2
)

// struct __sk_buff (include/uapi/linux/bpf.h).
const (
	skbProtocol       = 16
	skbIngressIfindex = 36
)

// bpfHdrStartNet is BPF_HDR_START_NET of bpf_skb_load_bytes_relative.
const bpfHdrStartNet = 1

const (
	etherTypeOffset = 12
	etherQinQ       = 0x9100 // pre-standard 802.1ad
	maxTags         = 2      // in band; the outermost tag is in skb->vlan_tci
	maxExtensions   = 4      // of IPv6, before ND

	neighborSolicit   = 135 // RFC 4861, 4.3
	neighborAdvertise = 136 // RFC 4861, 4.4
)

// The stack, from the frame pointer (R10).
const (
	stackKey    = -16  // the address looked up, 16 bytes
	stackHeader = -64  // IPv6 header, 40 bytes, or parts of others
	stackMAC    = -72  // source MAC, 8 bytes
	stackND     = -96  // ICMPv6 neighbor message: type, then the target at +8
	stackNext   = -104 // next header and length of an extension header
)

// The registers that survive calls.
const (
	regSkb      = asm.R6
	regOffset   = asm.R7 // of the network header, to be given to load
	regProtocol = asm.R8 // until check
	regDeadline = asm.R8 // in check
	regSlot     = asm.R9 // in check
)

// program is one of the four variants while it is written.
type program struct {
	direction direction
	framing   framing
	addresses *ebpf.Map
	slots     *ebpf.Map

	ins    asm.Instructions
	symbol string // of the next instruction
	labels int
}

// instructions assembles a variant of the program.
func instructions(d direction, f framing, addresses, slots *ebpf.Map) asm.Instructions {
	p := &program{direction: d, framing: f, addresses: addresses, slots: slots}
	p.add(asm.Mov.Reg(regSkb, asm.R1))
	if f == ethernet {
		p.findEthernet()
	} else {
		p.findNetwork()
	}
	p.add(asm.JEq.Imm(regProtocol, net16(unix.ETH_P_IP), "ipv4"),
		asm.JEq.Imm(regProtocol, net16(unix.ETH_P_ARP), "arp"),
		asm.JEq.Imm(regProtocol, net16(unix.ETH_P_IPV6), "ipv6"),
		asm.Ja.Label("pass"))
	p.ipv4()
	p.arp()
	p.ipv6()
	p.label("drop").add(asm.Mov.Imm(asm.R0, actShot), asm.Return())
	p.label("pass").add(asm.Mov.Imm(asm.R0, actUnspec), asm.Return())
	return p.ins
}

// add appends instructions; the first one gets the label that is waiting.
func (p *program) add(ins ...asm.Instruction) {
	if p.symbol != "" {
		ins[0] = ins[0].WithSymbol(p.symbol)
		p.symbol = ""
	}
	p.ins = append(p.ins, ins...)
}

// label names the next instruction.
func (p *program) label(name string) *program {
	if p.symbol != "" {
		panic("gate: two labels on one instruction: " + p.symbol + ", " + name)
	}
	p.symbol = name
	return p
}

// unique returns a label that is used once.
func (p *program) unique(name string) string {
	p.labels++
	return fmt.Sprintf("%s_%d", name, p.labels)
}

// load copies size bytes at the network header (or, before that is found, the
// frame) + at to the stack, from wherever they lie in the skb. A packet
// that is shorter passes.
func (p *program) load(at, size, stack int32) {
	p.add(asm.Mov.Reg(asm.R1, regSkb),
		asm.Mov.Reg(asm.R2, regOffset), asm.Add.Imm(asm.R2, at),
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, stack),
		asm.Mov.Imm(asm.R4, size))
	if p.framing == ethernet {
		p.add(asm.FnSkbLoadBytes.Call())
	} else {
		p.add(asm.Mov.Imm(asm.R5, bpfHdrStartNet), asm.FnSkbLoadBytesRelative.Call())
	}
	p.add(asm.JNE.Imm(asm.R0, 0, "pass"))
}

// findEthernet sets protocol and offset from the frame itself, past VLAN tags.
func (p *program) findEthernet() {
	p.add(asm.Mov.Imm(regOffset, etherTypeOffset))
	p.loadEtherType()
	for range maxTags {
		tag, end := p.unique("tag"), "found"
		p.jumpIfTag(tag)
		p.add(asm.Ja.Label(end))
		p.label(tag).add(asm.Add.Imm(regOffset, 4))
		p.loadEtherType()
	}
	p.label("found").add(asm.Add.Imm(regOffset, 2))
}

func (p *program) loadEtherType() {
	p.load(0, 2, stackHeader)
	p.add(asm.LoadMem(regProtocol, asm.RFP, stackHeader, asm.Half))
}

func (p *program) jumpIfTag(to string) {
	for _, t := range []uint16{unix.ETH_P_8021Q, unix.ETH_P_8021AD, etherQinQ} {
		p.add(asm.JEq.Imm(regProtocol, net16(t), to))
	}
}

func (p *program) findNetwork() {
	p.add(asm.LoadMem(regProtocol, regSkb, skbProtocol, asm.Word), asm.Mov.Imm(regOffset, 0))
}

// ipv4 looks at source and destination only, which stand where they are
// whatever options and fragments follow (RFC 791, 3.1).
func (p *program) ipv4() {
	const source, destination = stackHeader, stackHeader + 4
	p.label("ipv4").load(12, 8, stackHeader)
	if p.direction == ingress {
		p.checkIPv4(destination, true, "pass")
		return
	}
	p.checkIPv4(source, true, "ipv4_forwarded")
	p.label("ipv4_forwarded").jumpIfOwn("pass")
	p.checkIPv4(destination, false, "pass")
}

// jumpIfOwn jumps when this host originated the packet.
func (p *program) jumpIfOwn(to string) {
	p.add(asm.LoadMem(asm.R1, regSkb, skbIngressIfindex, asm.Word),
		asm.JEq.Imm(asm.R1, 0, to))
}

// arp (RFC 826) goes by the addresses, not by the operation: in whose name out,
// for which address in. What comes in in the VIP's own name (the holder's
// announcement) is nothing that this host could answer.
func (p *program) arp() {
	const sender, target = stackHeader + 8, stackHeader + 12
	p.label("arp").load(0, 8, stackHeader)
	p.add(asm.LoadMem(asm.R1, asm.RFP, stackHeader+2, asm.Half),
		asm.JNE.Imm(asm.R1, net16(unix.ETH_P_IP), "pass"),
		asm.LoadMem(asm.R1, asm.RFP, stackHeader+5, asm.Byte),
		asm.JNE.Imm(asm.R1, 4, "pass"),
		asm.LoadMem(regProtocol, asm.RFP, stackHeader+4, asm.Byte), // the hardware address's length
		asm.Add.Reg(regOffset, regProtocol))
	p.load(8, 4, sender)
	if p.direction == egress {
		p.checkIPv4(sender, false, "pass")
		return
	}
	p.add(asm.Add.Reg(regOffset, regProtocol))
	p.load(12, 4, target)
	p.add(asm.LoadMem(asm.R1, asm.RFP, sender, asm.Word),
		asm.LoadMem(asm.R2, asm.RFP, target, asm.Word),
		asm.JEq.Reg(asm.R1, asm.R2, "pass"))
	p.checkIPv4(target, false, "pass")
}

// ipv6 looks at source and destination (RFC 8200, 3), then for ND.
func (p *program) ipv6() {
	const source, destination = stackHeader + 8, stackHeader + 24
	p.label("ipv6").load(0, 40, stackHeader)
	if p.direction == ingress {
		p.check(destination, true, "icmpv6")
	} else {
		p.check(source, true, "ipv6_forwarded")
		p.label("ipv6_forwarded").jumpIfOwn("icmpv6")
		p.check(destination, false, "icmpv6")
	}
	p.label("icmpv6").findICMPv6()
	p.neighbor(source)
}

// findICMPv6 moves the offset to the ICMPv6 header, past extension headers of
// the common form (RFC 8200, 4.2), or ends with a pass. ND is not fragmented
// (RFC 6980).
func (p *program) findICMPv6() {
	p.add(asm.LoadMem(regProtocol, asm.RFP, stackHeader+6, asm.Byte), asm.Add.Imm(regOffset, 40))
	for range maxExtensions {
		extension := p.unique("extension")
		p.add(asm.JEq.Imm(regProtocol, unix.IPPROTO_ICMPV6, "found_icmpv6"))
		for _, h := range []int32{unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS} {
			p.add(asm.JEq.Imm(regProtocol, h, extension))
		}
		p.add(asm.Ja.Label("pass"))
		p.label(extension).load(0, 2, stackNext)
		p.add(asm.LoadMem(regProtocol, asm.RFP, stackNext, asm.Byte),
			asm.LoadMem(asm.R1, asm.RFP, stackNext+1, asm.Byte),
			asm.Add.Imm(asm.R1, 1), asm.LSh.Imm(asm.R1, 3), // in units of 8 bytes, not counting the first
			asm.Add.Reg(regOffset, asm.R1))
	}
	p.add(asm.JNE.Imm(regProtocol, unix.IPPROTO_ICMPV6, "pass"))
}

// neighbor gates solicitations for a VIP in, advertisements of it out, and out
// also the solicitations of duplicate address detection (RFC 4862, 5.4.2).
func (p *program) neighbor(source int16) {
	p.label("found_icmpv6").load(0, 24, stackND)
	p.add(asm.LoadMem(asm.R1, asm.RFP, stackND, asm.Byte))
	if p.direction == ingress {
		p.add(asm.JNE.Imm(asm.R1, neighborSolicit, "pass"))
	} else {
		p.add(asm.JEq.Imm(asm.R1, neighborAdvertise, "claim"),
			asm.JNE.Imm(asm.R1, neighborSolicit, "pass"),
			asm.LoadMem(asm.R1, asm.RFP, source, asm.DWord),
			asm.LoadMem(asm.R2, asm.RFP, source+8, asm.DWord),
			asm.Or.Reg(asm.R1, asm.R2),
			asm.JNE.Imm(asm.R1, 0, "pass"))
		p.label("claim")
	}
	p.check(stackND+8, false, "pass")
}

// checkIPv4 is check for 4 bytes on the stack, as ::ffff:a.b.c.d. The key is
// written 8 bytes at a time: verifiers up to about Linux 6.2 take a smaller write
// beside another for an attack, unless the loader has CAP_PERFMON.
func (p *program) checkIPv4(address int16, exempt bool, next string) {
	prefix := int64(binary.NativeEndian.Uint64([]byte{2: 0xff, 3: 0xff, 7: 0}))
	p.add(asm.Mov.Imm(asm.R1, 0), asm.StoreMem(asm.RFP, stackKey, asm.R1, asm.DWord),
		asm.LoadMem(asm.R1, asm.RFP, address, asm.Word))
	if littleEndian {
		p.add(asm.LSh.Imm(asm.R1, 32))
	}
	p.add(asm.LoadImm(asm.R2, prefix, asm.DWord), asm.Or.Reg(asm.R1, asm.R2),
		asm.StoreMem(asm.RFP, stackKey+8, asm.R1, asm.DWord))
	p.check(stackKey, exempt, next)
}

// check goes to next unless the 16 bytes on the stack are a gated address that
// is shut: then to drop. The clock is read last.
func (p *program) check(address int32, exempt bool, next string) {
	shut := p.unique("shut")
	p.add(asm.LoadMapPtr(asm.R1, p.addresses.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, address),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, next),
		asm.Mov.Reg(asm.R2, asm.R0), // the slot's number, where the map keeps it
		asm.LoadMapPtr(asm.R1, p.slots.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "drop"),
		asm.Mov.Reg(regSlot, asm.R0),
		asm.LoadMem(regDeadline, regSlot, slotDeadline, asm.DWord),
		asm.FnKtimeGetBootNs.Call(),
		asm.JLT.Reg(asm.R0, regDeadline, next))
	if exempt {
		p.exempt(next, shut)
	}
	p.label(shut).add(asm.Mov.Imm(asm.R1, 1),
		asm.AddAtomic.Mem(regSlot, asm.R1, asm.DWord, slotDropped),
		asm.Ja.Label("drop"))
}

// exempt goes to next for what the active director forwards to this real
// server, and for this real server's replies.
func (p *program) exempt(next, shut string) {
	if p.direction == egress {
		p.add(asm.LoadMem(asm.R1, regSlot, slotMACs, asm.DWord))
		for i := int16(1); i < maxMACs; i++ {
			p.add(asm.LoadMem(asm.R2, regSlot, slotMACs+8*i, asm.DWord), asm.Or.Reg(asm.R1, asm.R2))
		}
		p.add(asm.JNE.Imm(asm.R1, 0, next))
		return
	}
	if p.framing != ethernet {
		return
	}
	p.add(asm.Mov.Imm(asm.R1, 0), asm.StoreMem(asm.RFP, stackMAC, asm.R1, asm.DWord),
		asm.Mov.Reg(asm.R1, regSkb), asm.Mov.Imm(asm.R2, 6),
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, stackMAC),
		asm.Mov.Imm(asm.R4, 6), asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, shut),
		asm.LoadMem(asm.R1, asm.RFP, stackMAC, asm.DWord),
		asm.JEq.Imm(asm.R1, 0, shut))
	for i := int16(0); i < maxMACs; i++ {
		p.add(asm.LoadMem(asm.R2, regSlot, slotMACs+8*i, asm.DWord), asm.JEq.Reg(asm.R1, asm.R2, next))
	}
}

var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// net16 is how a 16-bit field in network order reads as a native number.
func net16(v uint16) int32 {
	return int32(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v)))
}
