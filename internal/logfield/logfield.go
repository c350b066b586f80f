// Package logfield is the vocabulary of the fields of log lines: every
// package names a thing by the word given here, so that one search finds it.
package logfield

// The words of docs/ARCHITECTURE.md, "Words".
const (
	Group      = "group"
	Node       = "node"
	Service    = "service"
	RealServer = "real_server"
	VIP        = "vip"
	Interface  = "interface"
	Lock       = "lock"
	Epoch      = "epoch"
	Reason     = "reason"
	From       = "from"
	To         = "to"
	Session    = "session"
	Server     = "server"
	Path       = "path"
	Took       = "took"
	Deadline   = "lease_left"
	Check      = "check"
	Remedy     = "remedy"
	Listen     = "listen" // a service in the kernel's table: TCP 192.0.2.100:80
	Evidence   = "evidence"
)
