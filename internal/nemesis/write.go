package nemesis

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Write writes report.json, timeline.svg and README.md into a directory.
func (r *Report) Write(dir string) error {
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "report.json"), append(data, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "timeline.svg"), []byte(r.Timeline()), 0o644),
		os.WriteFile(filepath.Join(dir, "README.md"), []byte(r.Markdown()), 0o644),
	)
}

// Markdown is the report for the docs.
func (r *Report) Markdown() string {
	var b strings.Builder
	b.WriteString("# Nemesis: what was broken, and what it cost\n\nMade by `make nemesis`; see the package text of `internal/nemesis`.\n\n")
	fmt.Fprintf(&b, "    %s\n\n", r.Command)
	what := "two groups with IPVS services"
	if !r.Services {
		what = "two groups without services"
	}
	fmt.Fprintf(&b, `Three directors, three ZooKeeper servers, %s; zklvs %s, Linux %s, %s. Lease %.0f ms, W %.0f ms.
%d faults in %.0f s, %d ARP requests (one in 5 ms for each VIP), %d HTTP requests (one in %.0f ms through each VIP), %d of them answered.
The observers themselves stood still for at most %.0f ms; %d times a director ended that no fault had struck.
They used %.2f processors, the cluster %.2f.
**%s**

`, what, r.Version, r.Kernel, r.Date, r.LeaseMS, r.WaitMS, len(r.Faults), r.Seconds, r.Probes, r.Requests, r.IntervalMS, r.Answered,
		r.StallMS, r.Restarts, r.ObserversCPU, r.ClusterCPU, r.verdict())
	b.WriteString("An outage (out) is the longest pause between two answered requests of the group that suffered more, from a fault's begin until all is well again. ")
	fmt.Fprintf(&b, "A return is how long after the heal (of ZooKeeper's servers: after the quorum) both VIPs were served; it may take %.0f ms, and %.0f ms where a record was deleted.\n\n",
		r.BoundMS, r.LostMS)
	b.WriteString("| " + strings.Join(heads, " | ") + " |\n|---" + strings.Repeat("|--:", len(heads)-1) + "|\n")
	for _, s := range r.Kinds {
		b.WriteString("| " + strings.Join(s.cells(), " | ") + " |\n")
	}
	b.WriteString("\n| kind | what is done |\n|---|---|\n")
	for _, k := range kinds {
		left := ""
		if why := r.LeftOut[k.name]; why != "" {
			left = "; left out: " + why
		}
		fmt.Fprintf(&b, "| %s | %s%s |\n", k.name, k.about, left)
	}
	if len(r.Violations) > 0 {
		b.WriteString("\n## Violations\n\n")
		for _, v := range r.Violations {
			fmt.Fprintf(&b, "- %s\n", strings.ReplaceAll(v.String(), "\n", "\n  "))
		}
	}
	b.WriteString("\nEvery fault, with what was drawn for it, is in [report.json](report.json).\n\n![Who answered each VIP, and when what was broken](timeline.svg)\n")
	return b.String()
}

func (r *Report) verdict() string {
	if len(r.Faults)+len(r.Violations) == 0 {
		return "No fault was played to its end."
	}
	if len(r.Violations) == 0 {
		return "Never two answered for a VIP, and the service always returned in time."
	}
	safety := len(slices.DeleteFunc(slices.Clone(r.Violations), func(v Violation) bool { return !v.Safety }))
	return fmt.Sprintf("Violations: %d of safety, %d of availability.", safety, len(r.Violations)-safety)
}

// Verdict is the result in a sentence.
func (r *Report) Verdict() string {
	return fmt.Sprintf("%d faults in %.0f s, seed %d. %s", len(r.Faults), r.Seconds, r.Seed, r.verdict())
}
