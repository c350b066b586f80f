package spec

import (
	"regexp"
	"testing"
)

// Each message names file and line on every line.
var located = regexp.MustCompile(`^(f\.yaml|spec/[a-z]+(/x)?):[1-9][0-9]*: [[:graph:]].*; expected |^\.\.\. and [0-9]+ more$`)

func checkMessages(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	for i, p := range err.(Errors) {
		if line := p.String(); i < shownErrors && !located.MatchString(line) {
			t.Errorf("message %q", line)
		}
	}
}

// What parses, encodes to something that parses to the same.
func checkRoundTrip(t *testing.T, d *Documents) {
	t.Helper()
	for path, data := range d.Encode() {
		again, err := Decode(path, data)
		if err != nil {
			t.Fatalf("%v\n%s", err, data)
		}
		if second := again.Encode()[path]; string(second) != string(data) {
			t.Fatalf("not stable:\n%s\n%s", data, second)
		}
		if path == ClusterPath {
			if diff := cmpDiff(d.Cluster, again.Cluster); diff != "" {
				t.Fatalf("(-first +second)\n%s", diff)
			}
		}
		for name, g := range again.Groups {
			if diff := cmpDiff(d.Groups[name], g); diff != "" {
				t.Fatalf("(-first +second)\n%s", diff)
			}
		}
		for name, s := range again.Services {
			if diff := cmpDiff(d.Services[name], s); diff != "" {
				t.Fatalf("(-first +second)\n%s", diff)
			}
		}
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add([]byte(webExample))
	f.Add([]byte(fullExample))
	f.Add([]byte(in("    real_servers:\n      - {address: \"[fd00::2]:80\"}\n")))
	f.Add([]byte("groups: {g: {vips: [2001:db8::1/64, \"fd00::2\"]}}\nservices: {s: {group: g, listen: \"[2001:db8::1]:80/tcp\", real_servers: [{address: \"[2001:db8::2]:80\"}]}}\n"))
	f.Add([]byte(in("    real_servers:\n      - {address: [fd00::2]:80}\n")))
	f.Add([]byte(twoGroups))
	for _, test := range serviceRules {
		f.Add([]byte(service(test.text)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := ParseFile("f.yaml", data)
		checkMessages(t, err)
		_ = d.Spec().Check()
		if err == nil {
			checkRoundTrip(t, d)
		}
	})
}

func FuzzDecode(f *testing.F) {
	d, err := ParseFile("full.yaml", []byte(fullExample))
	if err != nil {
		f.Fatal(err)
	}
	for _, data := range d.Encode() {
		f.Add(data)
	}
	f.Add([]byte("{servers: [a:1, b:c], x: 1:2}"))
	f.Add([]byte("ipvs: {timeouts: {tcp: 900s}, sysctls: {sync_threshold: \"3 50\", conntrack: keep}, sync: {id: 1, group: \"ff02::81\"}}\n"))
	f.Add([]byte("vips: [{address: \"fd00::1\", interface: eth1, label: \"eth1:1\"}, 10.0.0.1]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, path := range []string{ClusterPath, GroupPath("x"), ServicePath("x")} {
			d, err := Decode(path, data)
			checkMessages(t, err)
			if err == nil {
				checkRoundTrip(t, d)
				_ = d.Spec().Check()
			}
		}
	})
}

func FuzzParseLocal(f *testing.F) {
	f.Add([]byte("cluster: web\nnode: node01\nzookeeper: {servers: [10.0.0.1:2181, 10.0.0.2:2181]}\ninterface: eth0\n"))
	f.Add([]byte("cluster: web\nzookeeper:\n  servers: [zk, \"[fd00::1]:2\"]\n  credentials: {user: u, password_file: /p}\n  tls: {ca: /a, cert: /b, key: /c}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := ParseLocal("f.yaml", data)
		checkMessages(t, err)
		if err == nil && (CheckName(l.Cluster) != nil || len(l.ZooKeeper.Servers) == 0 || checkSocket(l.ControlSocket) != nil) {
			t.Errorf("accepted %+v", l)
		}
	})
}

func FuzzDiff(f *testing.F) {
	f.Add([]byte("a\nb\n"), []byte("a\nc\n"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		for _, c := range Diff(map[string][]byte{"x": a}, map[string][]byte{"x": b}) {
			if (c.Kind == Unchanged) != (string(a) == string(b)) {
				t.Errorf("%s", c.Kind)
			}
		}
	})
}
