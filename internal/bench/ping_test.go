package bench

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const ms = time.Millisecond

func TestGap(t *testing.T) {
	for _, c := range []struct {
		name  string
		got   []time.Duration // of requests sent each 2 ms from 2 ms on; 0: none
		since time.Duration
		now   time.Duration
		want  Value
	}{
		{"all answered", []time.Duration{3 * ms, 5 * ms, 7 * ms}, 3 * ms, 8 * ms, Value{V: 0.003}},
		{"one lost", []time.Duration{3 * ms, 0, 7 * ms, 9 * ms}, 3 * ms, 10 * ms, Value{V: 0.005}},
		{"the gap began before", []time.Duration{3 * ms, 0, 0, 9 * ms, 11 * ms}, 5 * ms, 12 * ms, Value{V: 0.007}},
		{"it lasts", []time.Duration{3 * ms, 5 * ms, 0, 0, 0}, 3 * ms, 14 * ms, Value{V: 0.010, AtLeast: true}},
		{"a gap before does not count", []time.Duration{3 * ms, 0, 0, 9 * ms, 11 * ms}, 9 * ms, 12 * ms, Value{V: 0.003}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &pinger{}
			for i, at := range c.got {
				p.sent, p.got = append(p.sent, time.Duration(i+1)*2*ms), append(p.got, at)
			}
			if diff := cmp.Diff(c.want, p.gap(c.since, c.now)); diff != "" {
				t.Errorf("gap (-want +got):\n%s", diff)
			}
		})
	}
}

// An answer is counted for its request, though the number on the wire has 16 bits.
func TestEchoNumbersWrap(t *testing.T) {
	p := &pinger{id: 7}
	for range 70_000 {
		p.next(ms)
	}
	reply := func(id, number uint16) []byte {
		packet := append(make([]byte, 20), echo(id, number)...)
		packet[0], packet[20] = 0x45, 0
		return packet
	}
	p.note(2*ms, reply(7, 69_990-65_536))
	p.note(3*ms, reply(7, 65_500))
	p.note(4*ms, reply(8, 1)) // another program's
	p.note(5*ms, reply(7, 65_500)[:25])
	for i, want := range map[int]time.Duration{69_990: 2 * ms, 65_500: 3 * ms, 1: 0, 65_537: 0} {
		if p.got[i] != want {
			t.Errorf("request %d was answered at %v, want %v", i, p.got[i], want)
		}
	}
}

func TestEchoChecksum(t *testing.T) {
	var sum uint32
	message := echo(0x1234, 0xfffe)
	for i := 0; i < len(message); i += 2 {
		sum += uint32(message[i])<<8 + uint32(message[i+1])
	}
	if sum = sum>>16 + sum&0xffff; sum != 0xffff { // RFC 1071: with its checksum it is all ones
		t.Errorf("the sum is %#x", sum)
	}
}
