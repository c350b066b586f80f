package spec

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Keep as the value of a sysctl leaves what a host has.
const Keep = "keep"

// sysctlRule says which values a sysctl takes; check returns false for others.
type sysctlRule struct {
	expected string
	check    func(string) bool
}

func numbers(lo, hi int) sysctlRule {
	return sysctlRule{fmt.Sprintf("a whole number from %d to %d", lo, hi), func(s string) bool {
		n, err := strconv.Atoi(s)
		return err == nil && strconv.Itoa(n) == s && lo <= n && n <= hi
	}}
}

// knownSysctls are net.ipv4.vs.* of Linux 6.18 with the values that the kernel
// takes (Documentation/networking/ipvs-sysctl.rst and vs_vars of ip_vs_ctl.c).
func knownSysctls() map[string]sysctlRule {
	flag, mode, count := numbers(0, 1), numbers(0, 3), numbers(0, math.MaxInt32)
	return map[string]sysctlRule{
		"am_droprate": count, "amemthresh": count, "backup_only": flag, "cache_bypass": flag, "conn_reuse_mode": mode,
		"conntrack": flag, "drop_entry": mode, "drop_packet": mode, "est_cpulist": {"a list of CPUs, such as \"0-3,8\"", isCPUList},
		"est_nice": numbers(-20, 19), "expire_nodest_conn": flag, "expire_quiescent_template": flag, "ignore_tunneled": flag,
		"nat_icmp_send": flag, "pmtu_disc": flag, "run_estimation": flag, "schedule_icmp": flag, "secure_tcp": mode,
		"sloppy_sctp": flag, "sloppy_tcp": flag, "snat_reroute": flag, "sync_persist_mode": flag,
		"sync_ports": {"1, 2, 4, 8, 16, 32 or 64", isSyncPorts}, "sync_qlen_max": count, "sync_refresh_period": count,
		"sync_retries": mode, "sync_sock_size": count,
		"sync_threshold": {"two numbers, the first smaller than the second unless that is 0, such as \"0 0\" or \"3 50\"", isThreshold},
		"sync_version":   flag,
	}
}

// isSyncPorts: a power of two; ip_vs_ctl.c, proc_do_sync_ports, and IPVS_SYNC_PORTS_MAX.
func isSyncPorts(s string) bool {
	return slices.Contains([]string{"1", "2", "4", "8", "16", "32", "64"}, s)
}

// isThreshold: ip_vs_ctl.c, proc_do_sync_threshold.
func isThreshold(s string) bool {
	a, b, _ := strings.Cut(s, " ")
	count := numbers(0, math.MaxInt32)
	if !count.check(a) || !count.check(b) {
		return false
	}
	n, _ := strconv.Atoi(a)
	period, _ := strconv.Atoi(b)
	return period == 0 || n < period
}

// isCPUList: the kernel's list format (bitmap_parselist).
func isCPUList(s string) bool {
	return s == "all" || s != "" && len(s) <= 255 && strings.Trim(s, "0123456789N,-:/") == ""
}

// sysctls is the codec of Cluster.IPVS.Sysctls.
func sysctls(dst *map[string]string) codec {
	return codec{
		decode: func(v value) {
			entries, ok := v.entries("a mapping such as {sloppy_tcp: 1}")
			if !ok {
				return
			}
			known := knownSysctls()
			*dst = map[string]string{}
			for _, e := range entries {
				rule, ok := known[e.key]
				if !ok {
					e.value.failf("%q is no sysctl below net.ipv4.vs; expected one of %s%s", printable(e.key),
						strings.Join(slices.Sorted(maps.Keys(known)), ", "), DidYouMean(e.key, slices.Collect(maps.Keys(known))))
					continue
				}
				s, ok := e.value.scalar(rule.expected)
				if ok && s.text != Keep && !rule.check(s.text) {
					e.value.failf("%q is out of range; expected %s, or %s", printable(s.text), rule.expected, Keep)
					ok = false
				}
				if ok {
					(*dst)[e.key] = s.text
				}
			}
			if len(*dst) == 0 {
				*dst = nil
			}
		},
		encode: func() element {
			e := element{kind: mapping}
			for _, name := range slices.Sorted(maps.Keys(*dst)) {
				e.pairs = append(e.pairs, pair{name, scalarElement(sysctlText((*dst)[name]))})
			}
			return written(e)
		},
	}
}

// sysctlText writes a value: a number as such, other text in quotes.
func sysctlText(value string) string {
	if numbers(math.MinInt32, math.MaxInt32).check(value) {
		return value
	}
	return quote(value)
}
