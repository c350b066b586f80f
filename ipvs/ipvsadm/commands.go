package ipvsadm

import (
	"slices"
	"strings"
)

// command is what a line does, and with which slots.
type command struct {
	name string // its long option
	must []string
	may  []string
}

var commands = []command{
	{"add-service", []string{slotService}, serviceSlots},
	{"edit-service", []string{slotService}, serviceSlots},
	{"delete-service", []string{slotService}, []string{"ipv6"}},
	{"add-server", []string{slotService, "real-server"}, serverSlots},
	{"edit-server", []string{slotService, "real-server"}, serverSlots},
	{"delete-server", []string{slotService, "real-server"}, []string{"ipv6"}},
	{"clear", nil, nil},
	{"zero", nil, []string{slotService, "ipv6"}},
	{"start-daemon", nil, []string{"mcast-interface", "mcast-group", "mcast-port", "mcast-ttl", "syncid", "sync-maxlen"}},
	{"stop-daemon", nil, []string{"syncid"}},
	{"set", nil, nil},
}

var (
	serviceSlots = []string{"ipv6", "scheduler", "persistent", "netmask", "pe", "ops", "sched-flags"}
	serverSlots  = []string{"ipv6", slotForward, "weight", "u-threshold", "l-threshold", "tun-type", "tun-port", slotChecksum}
)

// line is one command of the input. Its problems are collected, so that one
// does not hide the others.
type line struct {
	command string
	slots   map[string]word
	rest    []string // words that no option takes
	faults  []string
	notes   []string
}

func (l *line) fault(text string)    { l.faults = append(l.faults, text) }
func (l *line) note(text string)     { l.notes = append(l.notes, text) }
func (l *line) has(slot string) bool { _, ok := l.slots[slot]; return ok }

// check notes what is wrong with the value of an option.
func (l *line) check(w word, err error) {
	if err != nil {
		l.fault(w.text + " " + err.Error())
	}
}

// parseLine finds the command, and what of it is given twice, missing or out of
// place.
func parseLine(tokens []string) *line {
	l := &line{slots: map[string]word{}}
	words, rest, err := scan(tokens)
	if err != nil {
		l.fault(err.Error())
		return l
	}
	l.rest = rest
	if len(words) == 0 || words[0].slot != slotCommand {
		l.fault(quote(tokens[0]) + " is no command of ipvsadm; expected -A or -a (--add-service, --add-server) first, as ipvsadm -S prints it")
		return l
	}
	for _, w := range words {
		if twin, twice := l.slots[w.slot]; twice {
			l.fault(w.text + " and " + twin.text + " exclude each other; expected one " + w.slot)
			continue
		}
		l.slots[w.slot] = w
	}
	i := slices.IndexFunc(commands, func(c command) bool { return c.name == words[0].long })
	if i < 0 {
		l.fault(words[0].text + " changes no table; expected -A, -a, -E, -e, -D, -d or -C")
		return l
	}
	l.command = commands[i].name
	l.placed(commands[i], words[1:])
	return l
}

// placed checks the options of a command.
func (l *line) placed(c command, words []word) {
	for _, w := range words {
		if w.slot != slotCommand && !slices.Contains(c.must, w.slot) && !slices.Contains(c.may, w.slot) {
			l.fault(w.text + " has no place beside " + l.slots[slotCommand].text + "; expected it in another line")
		}
	}
	for _, slot := range c.must {
		switch {
		case l.has(slot):
		case slot == slotService:
			l.fault("has no service; expected -t, -u, --sctp-service or -f")
		default:
			l.fault("has no real server; expected -r ADDRESS:PORT")
		}
	}
	if len(l.rest) > 0 && c.name != "set" {
		hint := ""
		if strings.HasPrefix(l.rest[0], "#") {
			hint = "; expected a comment on a line of its own"
		}
		l.fault(quote(l.rest[0]) + " belongs to no option" + hint)
	}
}
