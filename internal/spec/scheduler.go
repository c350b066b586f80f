package spec

import "slices"

const flagsMeaning = "with sh and mh: sh-fallback, mh-fallback (a client of a real server that has weight 0 or is above its threshold goes to another one, instead of being refused), " +
	"sh-port, mh-port (a client's port counts as well), or flag-1 to flag-3 by number. Without this line fallback is set, because draining gives weight 0; a list without it is refused where a document can give a real server weight 0 or a threshold"

// schedulerFlags are the words for the kernel's three bits, in their order, of a
// scheduler that looks at them; nil for others.
func schedulerFlags(scheduler string) []string {
	if scheduler != "sh" && scheduler != "mh" {
		return nil
	}
	return []string{scheduler + "-fallback", scheduler + "-port", "flag-3"}
}

// SchedulerFlagBits are the kernel's flags for SchedulerFlags: bit 0 for the
// first (linux/ip_vs.h, IP_VS_SVC_F_SCHED1).
func (s Service) SchedulerFlagBits() (bits uint8) {
	for i, word := range schedulerFlags(s.Scheduler) {
		if slices.Contains(s.SchedulerFlags, word) {
			bits |= 1 << i
		}
	}
	return bits
}

// defaultFlags are those of a service whose document names none.
func defaultFlags(scheduler string) []string {
	if words := schedulerFlags(scheduler); words != nil {
		return words[:1:1]
	}
	return nil
}

// flags is the codec of SchedulerFlags. It notes in written that there are some.
func (s *Service) flags(written *bool) codec {
	words := []string{"sh-fallback", "sh-port", "mh-fallback", "mh-port", "flag-1", "flag-2", "flag-3"}
	c := listOf(&s.SchedulerFlags, "flags, such as mh-port", true, fresh[string], func(dst *string) codec { return choice(dst, "scheduler flag", words...) })
	return codec{
		decode: func(v value) { *written = true; c.decode(v) },
		encode: func() element {
			if slices.Equal(s.SchedulerFlags, defaultFlags(s.Scheduler)) {
				return element{}
			}
			e := element{kind: flowSeq}
			for _, word := range s.SchedulerFlags {
				e.items = append(e.items, scalarElement(word))
			}
			return e
		},
	}
}

// flagsRule puts the flags into their order, or fills in the default.
func (s *Service) flagsRule(v value, written bool) {
	if !written {
		s.SchedulerFlags = defaultFlags(s.Scheduler)
		return
	}
	line, words := v.lineOf("scheduler_flags", -1), schedulerFlags(s.Scheduler)
	got := make([]bool, 3)
	for _, word := range s.SchedulerFlags {
		i := slices.Index(words, word)
		if i < 0 {
			i = slices.Index([]string{"flag-1", "flag-2", "flag-3"}, word)
		}
		switch {
		case word == "": // at fault already
		case words == nil:
			v.failAt(line, "scheduler %s has no flags; expected no scheduler_flags, or scheduler sh or mh", s.Scheduler)
			return
		case i < 0:
			v.failAt(line, "%s is no flag of scheduler %s; expected some of %s, %s", word, s.Scheduler, words[0], words[1])
			return
		default:
			got[i] = true
		}
	}
	s.SchedulerFlags = nil
	for i, word := range words {
		if got[i] {
			s.SchedulerFlags = append(s.SchedulerFlags, word)
		}
	}
	if words != nil && !got[0] {
		s.fallbackRule(v, words[0])
	}
}

// fallbackRule: ip_vs_sh.c and ip_vs_mh.c give no real server to a client whose
// own has weight 0 or is overloaded, unless they may fall back.
func (s *Service) fallbackRule(v value, word string) {
	const remedy = "expected %s among scheduler_flags, or no scheduler_flags"
	if s.OnFailure == WeightZero {
		v.failAt(v.lineOf("on_failure", -1), "without %s scheduler %s refuses the clients that it hashes to a real server of weight 0, which on_failure: weight_zero makes; "+remedy, word, s.Scheduler, word)
	}
	for i, rs := range s.RealServers {
		line := v.lineOf("real_servers", i)
		switch {
		case !rs.Address.IsValid():
		case rs.Weight == 0:
			v.failAt(line, "without %s scheduler %s refuses the clients that it hashes to real server %s of weight 0; "+remedy, word, s.Scheduler, rs, word)
		case rs.UpperThreshold > 0:
			v.failAt(line, "without %s scheduler %s refuses the clients that it hashes to real server %s above its upper_threshold; "+remedy, word, s.Scheduler, rs, word)
		}
	}
}
