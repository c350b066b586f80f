package ipvsadm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/zklvs/zklvs/internal/nearest"
)

// takes says whether an option has a value.
type takes int

const (
	nothing takes = iota
	value
	perhaps // a value unless the next word begins with a dash
)

// option is one of ipvsadm's (ipvsadm(8)).
type option struct {
	long  string
	short byte // 0: none
	takes takes
	// slot is what the option sets. Two options of one slot exclude each other,
	// so does one that is given twice.
	slot string
}

// The slots that more than one option fills.
const (
	slotCommand  = "command"
	slotService  = "service"
	slotForward  = "forwarding method"
	slotChecksum = "tunnel checksum"
)

var options = []option{
	{"add-service", 'A', nothing, slotCommand},
	{"edit-service", 'E', nothing, slotCommand},
	{"delete-service", 'D', nothing, slotCommand},
	{"clear", 'C', nothing, slotCommand},
	{"list", 'L', nothing, slotCommand},
	{"list", 'l', nothing, slotCommand},
	{"zero", 'Z', nothing, slotCommand},
	{"add-server", 'a', nothing, slotCommand},
	{"edit-server", 'e', nothing, slotCommand},
	{"delete-server", 'd', nothing, slotCommand},
	{"set", 0, nothing, slotCommand},
	{"help", 'h', nothing, slotCommand},
	{"version", 'v', nothing, slotCommand},
	{"restore", 'R', nothing, slotCommand},
	{"save", 'S', nothing, slotCommand},
	{"start-daemon", 0, value, slotCommand},
	{"stop-daemon", 0, value, slotCommand},
	{"tcp-service", 't', value, slotService},
	{"udp-service", 'u', value, slotService},
	{"sctp-service", 0, value, slotService},
	{"fwmark-service", 'f', value, slotService},
	{"ipv6", '6', nothing, "ipv6"},
	{"scheduler", 's', value, "scheduler"},
	{"persistent", 'p', perhaps, "persistent"},
	{"netmask", 'M', value, "netmask"},
	{"pe", 0, value, "pe"},
	{"ops", 'o', nothing, "ops"},
	{"sched-flags", 'b', value, "sched-flags"},
	{"real-server", 'r', value, "real-server"},
	{"masquerading", 'm', nothing, slotForward},
	{"ipip", 'i', nothing, slotForward},
	{"gatewaying", 'g', nothing, slotForward},
	{"weight", 'w', value, "weight"},
	{"u-threshold", 'x', value, "u-threshold"},
	{"l-threshold", 'y', value, "l-threshold"},
	{"tun-type", 0, value, "tun-type"},
	{"tun-port", 0, value, "tun-port"},
	{"tun-nocsum", 0, nothing, slotChecksum},
	{"tun-csum", 0, nothing, slotChecksum},
	{"tun-remcsum", 0, nothing, slotChecksum},
	{"mcast-interface", 0, value, "mcast-interface"},
	{"mcast-group", 0, value, "mcast-group"},
	{"mcast-port", 0, value, "mcast-port"},
	{"mcast-ttl", 0, value, "mcast-ttl"},
	{"syncid", 0, value, "syncid"},
	{"sync-maxlen", 0, value, "sync-maxlen"},
	{"numeric", 'n', nothing, "numeric"},
}

// word is an option as it stands in a line.
type word struct {
	option
	text  string // as written: -t or --tcp-service
	value string
	given bool // it has a value
}

// scan splits a line into options, as popt does for ipvsadm: short ones may be
// joined (-At), a value may be joined to its option (-w1, -w=1, --weight=1). The
// rest are words that no option takes.
func scan(line []string) (words []word, rest []string, err error) {
	next := func() (string, bool) {
		if len(line) == 0 {
			return "", false
		}
		s := line[0]
		line = line[1:]
		return s, true
	}
	for {
		s, ok := next()
		switch {
		case !ok:
			return words, rest, nil
		case strings.HasPrefix(s, "--") && len(s) > 2:
			w, err := long(s)
			if err != nil {
				return nil, nil, err
			}
			words = append(words, w)
		case strings.HasPrefix(s, "-") && len(s) > 1 && s != "--":
			more, err := short(s)
			if err != nil {
				return nil, nil, err
			}
			words = append(words, more...)
		default:
			rest = append(rest, s)
			continue
		}
		w := &words[len(words)-1]
		if w.given || w.takes == nothing || w.takes == perhaps && (len(line) == 0 || strings.HasPrefix(line[0], "-")) {
			continue
		}
		// ipvsadm -S prints -b and no word where sh or mh have flag-3 only.
		if w.value, w.given = next(); !w.given && w.slot != "sched-flags" {
			return nil, nil, fmt.Errorf("%s stands last; expected a value after it", w.text)
		}
	}
}

func long(s string) (word, error) {
	name, v, joined := strings.Cut(s[2:], "=")
	i := slices.IndexFunc(options, func(o option) bool { return o.long == name })
	if i < 0 {
		return word{}, fmt.Errorf("%s is no option of ipvsadm%s", quote("--"+name), nearest.DidYouMean(name, longNames()))
	}
	w := word{options[i], "--" + name, v, joined}
	if joined && w.takes == nothing {
		return word{}, fmt.Errorf("--%s takes no value; expected no %s", name, quote("="+v))
	}
	return w, nil
}

func longNames() (names []string) {
	for _, o := range options {
		names = append(names, o.long)
	}
	return names
}

func short(s string) (words []word, err error) {
	for i := 1; i < len(s); i++ {
		found := slices.IndexFunc(options, func(o option) bool { return o.short == s[i] })
		if found < 0 {
			return nil, unknownShort(s, i)
		}
		w := word{option: options[found], text: "-" + s[i:i+1]}
		if rest := s[i+1:]; rest != "" && w.takes != nothing {
			w.value, w.given = strings.TrimPrefix(rest, "="), true
			return append(words, w), nil
		}
		words = append(words, w)
	}
	return words, nil
}

// unknownShort is about the i-th byte of s, which may be a long option with one
// dash.
func unknownShort(s string, i int) error {
	if w := nearest.Word(s[1:], longNames()); w != "" && len(s) > 3 {
		return fmt.Errorf("%s is no option of ipvsadm (did you mean %q?)", quote(s), "--"+w)
	}
	return fmt.Errorf("%s in %s is no option of ipvsadm", quote("-"+s[i:i+1]), quote(s))
}
