package lab

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// field is a number in a frame, big endian, that a socket's filter compares.
type field struct {
	at, size int // size 1, 2 or 4 bytes
	want     uint32
}

// attachFilter lets a packet socket hear only the frames in which all fields are as
// wanted: others cost the kernel a few instructions, and the prober nothing. It is
// a classic BPF program (Documentation/networking/filter.rst of Linux).
func attachFilter(fd int, fields []field) error {
	sizes := map[int]uint16{1: unix.BPF_B, 2: unix.BPF_H, 4: unix.BPF_W}
	var program []unix.SockFilter
	for i, f := range fields {
		left := 2 * (len(fields) - 1 - i) // instructions up to the acceptance
		program = append(program,
			unix.SockFilter{Code: unix.BPF_LD | unix.BPF_ABS | sizes[f.size], K: uint32(f.at)},
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: uint8(left + 1), K: f.want})
	}
	program = append(program,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 16}, // that many bytes of it
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0})
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}); err != nil {
		return fmt.Errorf("attach a filter: %w", err)
	}
	return nil
}

// fields: the sender has the VIP.
func (q arpQuestion) fields() []field {
	return []field{{28, 4, binary.BigEndian.Uint32(q.vip[:])}}
}

// fields: it is an advertisement for an address that ends as the VIP does.
func (q nsQuestion) fields() []field {
	return []field{{20, 1, unix.IPPROTO_ICMPV6}, {icmpAt, 1, neighborAdvertisement}, {icmpAt + 20, 4, binary.BigEndian.Uint32(q.vip[12:])}}
}

// fields: it is an echo reply from the VIP and from the host.
func (q echoQuestion) fields() []field {
	return []field{
		{ipAt + 9, 1, unix.IPPROTO_ICMP}, {echoAt, 1, echoReply},
		{ipAt + 12, 4, binary.BigEndian.Uint32(q.vip[:])}, {8, 4, binary.BigEndian.Uint32(q.host[2:])},
	}
}
