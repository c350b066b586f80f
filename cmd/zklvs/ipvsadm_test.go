package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const webRules = `-A -t 10.0.0.1:80 -s rr -p 300
-a -t 10.0.0.1:80 -r 10.0.1.2:80 -g -w 1
-a -t 10.0.0.1:80 -r 10.0.1.3:80 -i -w 1 --tun-type gue --tun-port 5555 --tun-csum
-a -t 10.0.0.1:80 -r 10.0.1.4:8080 -m -w 3 -x 100 -y 50
-A --sctp-service [2001:db8::1]:80 -s mh -b mh-fallback,mh-port
-a --sctp-service [2001:db8::1]:80 -r 10.0.1.2:80 -i -w 1 --tun-type ipip
-A -f 5 -s wlc
-a -f 5 -r 10.0.1.2:0 -g -w 1
-A -f 5 -6 -s sh
-a -f 5 -6 -r [2001:db8::2]:0 -g -w 1
`

// What ipvsadm saved becomes documents, and they print the same again.
func TestImportAndExport(t *testing.T) {
	documents, stderr, code := runWithInput(t, strings.NewReader(webRules), "import", "ipvsadm")
	if code != exitNoted || !strings.Contains(stderr, "note: standard input:6: ") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("code %d, stderr %q, want %d and the note about families", code, stderr, exitNoted)
	}
	if !strings.HasPrefix(documents, "# Made of standard input by zklvs import ipvsadm.\n") || !strings.Contains(documents, "\n  imported:\n") {
		t.Errorf("documents:\n%s", documents)
	}
	rules, stderr, code := runWithInput(t, strings.NewReader(documents), "export", "ipvsadm", "-f", "-")
	if code != exitOK || stderr != "" {
		t.Errorf("export: code %d, stderr %q", code, stderr)
	}
	if d := cmp.Diff(webRules, rules); d != "" {
		t.Errorf("export (-before import +after):\n%s", d)
	}
}

func TestImportIpvsadm(t *testing.T) {
	good := file(t, "web.rules", "-A -t 10.0.0.1:80 -s rr\n")
	bad := file(t, "bad.rules", "-A -t www.example.org:80\n-A -u 10.0.0.1:53 -s wr\n")
	marks := file(t, "marks.rules", "-A -f 5 -s rr\n")
	for name, c := range map[string]struct {
		args           string
		code           int
		stdout, stderr string
	}{
		"file":           {good, exitOK, "\nservices:\n  tcp-10-0-0-1-80:\n    group: imported\n", ""},
		"group":          {good + " --group web", exitOK, "\ngroups:\n  web:\n    vips: [10.0.0.1]\n", ""},
		"further VIPs":   {marks + " --vip 10.0.0.7,2001:db8::7", exitOK, "vips: [10.0.0.7, \"2001:db8::7\"]\n", ""},
		"marks only":     {marks, exitBadInput, "", marks + ":1: all services are of firewall marks"},
		"faults":         {bad, exitBadInput, "", bad + `:1: -t "www.example.org" is the name of a host`},
		"second fault":   {bad, exitBadInput, "", bad + `:2: -s "wr" is no scheduler; expected one of`},
		"no file":        {"/nowhere/web.rules", exitBadInput, "", "open /nowhere/web.rules: no such file or directory"},
		"bad group":      {good + " --group ../etc", exitBadInput, "", `--group: "../etc" is no name`},
		"bad VIP":        {good + " --vip web", exitBadInput, "", `--vip "web": expected an address`},
		"several files":  {good + " " + good, exitBadInput, "", "accepts at most 1 arg"},
		"nothing to say": {"-", exitBadInput, "", "standard input:1: there is no service; expected what ipvsadm -S -n prints"},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := runCommandLine(t, append([]string{"import", "ipvsadm"}, strings.Fields(c.args)...)...)
			if code != c.code || !strings.Contains(stdout, c.stdout) || (stdout == "") != (c.stdout == "") || !strings.Contains(stderr, c.stderr) || (stderr == "") != (c.stderr == "") {
				t.Errorf("code %d, stdout %q, stderr %q; want %d, %q, %q", code, stdout, stderr, c.code, c.stdout, c.stderr)
			}
		})
	}
}

func TestExportIpvsadmFlags(t *testing.T) {
	docs := file(t, "web.yaml", "groups: {web: {vips: [10.0.0.1]}}\nservices:\n  http: {group: web, listen: 10.0.0.1:8000-8001/tcp, real_servers: [{address: 10.0.1.2, weight: 1}]}\n")
	bad := file(t, "bad.yaml", "groups: {web: {vips: [10.0.0.1]}}\nservices:\n  http: {group: wbe, listen: 10.0.0.1:80/tcp}\n")
	const both = "-A -t 10.0.0.1:8000 -s wlc\n-a -t 10.0.0.1:8000 -r 10.0.1.2:8000 -g -w 1\n-A -t 10.0.0.1:8001 -s wlc\n-a -t 10.0.0.1:8001 -r 10.0.1.2:8001 -g -w 1\n"
	for name, c := range map[string]struct {
		args           string
		code           int
		stdout, stderr string
	}{
		"files":            {"-f " + docs, exitOK, both, ""},
		"group":            {"-f " + docs + " --group web", exitOK, both, ""},
		"no such group":    {"-f " + docs + " --group wbe", exitBadInput, "", `--group "wbe": expected a group of the cluster (did you mean "web"?)`},
		"faulty documents": {"-f " + bad, exitBadInput, "", bad + `:3: service http: group "wbe" does not exist`},
		"all of documents": {"-f " + docs + " --all", exitBadInput, "", "expected --kernel --all"},
		"kernel and group": {"--kernel --group web", exitBadInput, "", "expected it without --group and -f"},
		"kernel and files": {"--kernel -f " + docs, exitBadInput, "", "expected it without --group and -f"},
		"argument":         {"web", exitBadInput, "", "web"},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := runCommandLine(t, append([]string{"export", "ipvsadm"}, strings.Fields(c.args)...)...)
			if code != c.code || stdout != c.stdout || !strings.Contains(stderr, c.stderr) || (stderr == "") != (c.stderr == "") {
				t.Errorf("code %d, stdout %q, stderr %q; want %d, %q, %q", code, stdout, stderr, c.code, c.stdout, c.stderr)
			}
		})
	}
}

// exportDocuments prints what stands in ZooKeeper.
func exportDocuments(s *site) {
	if _, stderr := s.run(exitFailed, "", "export", "ipvsadm"); !strings.Contains(stderr, "is not in ZooKeeper") {
		s.t.Errorf("before anything was applied: %s", stderr)
	}
	s.apply("groups: {web: {vips: [192.0.2.1]}, dns: {vips: [192.0.2.2]}}\nservices:\n" +
		"  http: {group: web, listen: 192.0.2.1:80/tcp, check: {tcp: {}}, real_servers: [{address: 192.0.2.9:80, weight: 2}]}\n" +
		"  dns: {group: dns, listen: 192.0.2.2:53/udp, scheduler: rr}\n")
	const http = "-A -t 192.0.2.1:80 -s wlc\n-a -t 192.0.2.1:80 -r 192.0.2.9:80 -g -w 2\n"
	for args, want := range map[string]string{"": http + "-A -u 192.0.2.2:53 -s rr\n", " --group web": http} {
		got, _ := s.run(exitOK, "", strings.Fields("export ipvsadm"+args)...)
		if d := cmp.Diff(want, got); d != "" {
			s.t.Errorf("export ipvsadm%s (-want +got):\n%s", args, d)
		}
	}
}

// Without a director's state nothing is ours, and nothing is done.
func TestClearWithoutState(t *testing.T) {
	config := file(t, "zklvs.yaml", "cluster: clear-test\nzookeeper: {servers: [127.0.0.1:1]}\nrun_dir: "+t.TempDir()+"/none\n")
	_, stderr, code := runAsNobody(t, "clear", "-c", config)
	if code != exitFailed || !strings.Contains(stderr, "root") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("as nobody: code %d, stderr %q", code, stderr)
	}
	stdout, stderr, code := runCommandLine(t, "clear", "-c", config, "--dry-run", "-o", "json")
	if code != exitOK || stderr != "" || stdout != "{\n  \"removed\": [],\n  \"dry_run\": true\n}\n" {
		t.Errorf("code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}
