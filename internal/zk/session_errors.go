package zk

import (
	"errors"
	"fmt"

	gozk "github.com/go-zookeeper/zk"
)

// The classes of failure of a call. Every error of a Session's calls is an
// *Error that wraps exactly one of them.
var (
	ErrNoNode     = errors.New("no such znode")
	ErrNodeExists = errors.New("znode exists")
	ErrBadVersion = errors.New("version conflict")
	ErrNotEmpty   = errors.New("znode has children")
	// ErrUnknown: a change was sent and its reply lost. It may or may not have
	// been committed, and may yet be.
	ErrUnknown = errors.New("connection lost, outcome unknown")
	// ErrDisconnected: there was no connection, or a read had no answer.
	// A change that fails so was not sent and never will be.
	ErrDisconnected = errors.New("not connected")
	// ErrExpired: the servers have ended the session, nothing was done.
	ErrExpired = errors.New("session expired")
	// ErrAuth: the ACL refuses these credentials, nothing was done.
	ErrAuth = errors.New("credentials refused")
	// ErrAborted marks the results of operations that failed only because
	// another one of the same Multi did.
	ErrAborted = errors.New("not done: another operation of the multi failed")
	// ErrOther: anything else, with the client's own words. Not committed.
	ErrOther = errors.New("request refused")
)

// errNotAdmitted is what the wire answers to a change that must not be sent
// any more: go-zk hands it to the caller whose request it was.
var errNotAdmitted = errors.New("change belongs to an earlier connection or was given up")

// Error is a failed call.
type Error struct {
	Op    string // create, set, delete, check, get, exists, children, multi
	Path  string
	Index int   // the operation of a Multi that failed; -1 where none is to blame
	Class error // one of the sentinels above
	Cause error // the client's own words; may be nil
}

func (e *Error) Error() string {
	s := fmt.Sprintf("zookeeper: %s %s: %v", e.Op, e.Path, e.Class)
	if e.Cause != nil {
		s += " (" + e.Cause.Error() + ")"
	}
	return s
}

func (e *Error) Unwrap() error { return e.Class }

func newError(op, path string, cause error, written bool) *Error {
	class := classify(cause, written)
	e := &Error{Op: op, Path: path, Index: -1, Class: class}
	if errors.Is(class, ErrOther) || errors.Is(class, ErrUnknown) {
		e.Cause = cause
	}
	return e
}

// classify maps go-zk's errors to the classes. Whatever is not an answer of
// the server to this very request counts as unknown once it was written.
func classify(err error, written bool) error {
	for _, known := range [...]struct{ from, to error }{
		{gozk.ErrNoNode, ErrNoNode},
		{gozk.ErrNodeExists, ErrNodeExists},
		{gozk.ErrBadVersion, ErrBadVersion},
		{gozk.ErrNotEmpty, ErrNotEmpty},
		{gozk.ErrNoAuth, ErrAuth},
		{gozk.ErrAuthFailed, ErrAuth},
		{gozk.ErrSessionExpired, ErrExpired},
		{errNotAdmitted, ErrDisconnected},
		{gozk.ErrInvalidPath, ErrOther},
		{gozk.ErrInvalidFlags, ErrOther},
		{gozk.ErrInvalidACL, ErrOther},
		{gozk.ErrNoChildrenForEphemerals, ErrOther},
		{gozk.ErrBadArguments, ErrOther},
		{gozk.ErrShortBuffer, ErrOther}, // larger than go-zk's send buffer: never sent
	} {
		if errors.Is(err, known.from) {
			return known.to
		}
	}
	if written {
		return ErrUnknown
	}
	return ErrDisconnected
}
