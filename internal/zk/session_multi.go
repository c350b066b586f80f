package zk

import (
	"context"
	"errors"
	"fmt"

	gozk "github.com/go-zookeeper/zk"
)

// Op is one operation of a Multi.
type Op struct {
	kind    string
	path    string
	data    []byte
	version int32
	mode    Mode
	secret  bool // see Config.secretACL
}

// OpCreate makes a znode with the session's ACL.
func OpCreate(path string, data []byte, mode Mode) Op {
	return Op{kind: "create", path: path, data: data, mode: mode}
}

// opCreateSecret is OpCreate of a persistent znode that the world may not read.
func opCreateSecret(path string, data []byte) Op {
	return Op{kind: "create", path: path, data: data, mode: Persistent, secret: true}
}

// OpSet writes a znode of that version, or AnyVersion.
func OpSet(path string, data []byte, version int32) Op {
	return Op{kind: "set", path: path, data: data, version: version}
}

// OpDelete removes a znode of that version, or AnyVersion.
func OpDelete(path string, version int32) Op {
	return Op{kind: "delete", path: path, version: version}
}

// OpCheck fails the Multi unless the znode is there in that version, or
// AnyVersion.
func OpCheck(path string, version int32) Op {
	return Op{kind: "check", path: path, version: version}
}

func (o Op) String() string { return o.kind + " " + o.path }

// Path is the znode that the operation is about.
func (o Op) Path() string { return o.path }

// size estimates the operation's bytes in the request.
func (o Op) size() int {
	const header, acl = 32, 192
	return header + acl + len(o.path) + len(o.data)
}

// Result is the outcome of one operation of a Multi that was committed, or,
// with Err, of one that was not.
type Result struct {
	Path string // of a create: the name that the server gave
	Stat Stat   // of a set
	Err  error  // nil, a class (see ErrNoNode), or ErrAborted for an operation that did not fail itself
}

// Multi commits all operations or none. Where one of them failed, the error is
// an *Error with its Index and path, and the results say of the others that
// they were aborted; on any other error there are no results.
func (s *Session) Multi(ctx context.Context, ops ...Op) ([]Result, error) {
	return s.MultiIn(ctx, 0, ops...)
}

// MultiIn is Multi in that session (State.ID) or not at all: it fails with
// ErrExpired where the Session has another one by now. It is for creating what
// carries the session's id in its name. 0 means whichever session there is.
func (s *Session) MultiIn(ctx context.Context, session int64, ops ...Op) ([]Result, error) {
	if len(ops) == 0 {
		return nil, nil
	}
	requests := make([]any, len(ops))
	for i, op := range ops {
		requests[i] = s.request(op)
	}
	answers, err := mutate(ctx, s, session, "multi", ops[0].path, func(c *gozk.Conn) ([]gozk.MultiResponse, error) {
		return c.Multi(requests...)
	})
	if err == nil && len(answers) != len(ops) {
		return nil, newError("multi", ops[0].path, fmt.Errorf("%d answers to %d operations", len(answers), len(ops)), true)
	}
	if err != nil {
		return failedMulti(ops, answers, err)
	}
	results := make([]Result, len(ops))
	for i, a := range answers {
		results[i] = Result{Path: a.String, Stat: statOf(a.Stat)}
	}
	return results, nil
}

// failedMulti finds the operation to blame. The server answers 0 for those
// before it and -2 (runtime inconsistency) for those after.
func failedMulti(ops []Op, answers []gozk.MultiResponse, err error) ([]Result, error) {
	if len(answers) != len(ops) {
		return nil, err
	}
	results := make([]Result, len(ops))
	for i := range results {
		results[i].Err = ErrAborted
	}
	for i, a := range answers {
		if a.Error == nil {
			continue
		}
		class := classify(a.Error, true)
		if errors.Is(class, ErrUnknown) {
			class = ErrOther // the server has answered: nothing was committed
		}
		results[i].Err = class
		e := &Error{Op: ops[i].kind, Path: ops[i].path, Index: i, Class: class}
		if errors.Is(class, ErrOther) {
			e.Cause = a.Error
		}
		return results, e
	}
	return nil, err
}

func (s *Session) request(op Op) any {
	switch op.kind {
	case "create":
		acl := s.cfg.acl()
		if op.secret {
			acl = s.cfg.secretACL()
		}
		return &gozk.CreateRequest{Path: op.path, Data: op.data, Acl: acl, Flags: int32(op.mode)}
	case "set":
		return &gozk.SetDataRequest{Path: op.path, Data: op.data, Version: op.version}
	case "delete":
		return &gozk.DeleteRequest{Path: op.path, Version: op.version}
	case "check":
		return &gozk.CheckVersionRequest{Path: op.path, Version: op.version}
	}
	panic("zk: operation of no kind: use OpCreate, OpSet, OpDelete or OpCheck")
}

// CheckAccess asks whether the credentials may change a znode, without
// changing it: ZooKeeper checks the ACL before the version, and no znode has
// the version asked for. A wrong password shows nowhere else: the servers
// accept any, and refuse what it does not open. A missing znode passes.
func (s *Session) CheckAccess(ctx context.Context, path string) error {
	const impossible = 1<<31 - 1
	_, err := s.Set(ctx, path, nil, impossible)
	switch {
	case err == nil, errors.Is(err, ErrBadVersion), errors.Is(err, ErrNoNode):
		return nil
	case !errors.Is(err, ErrAuth):
		return err
	case s.cfg.User == "":
		return fmt.Errorf("zookeeper: %s: %w: it is protected: set zookeeper.credentials (user and password_file)", path, ErrAuth)
	}
	return fmt.Errorf("zookeeper: %w for %s: user %q or its password is not the one that created it: check zookeeper.credentials on this host",
		ErrAuth, path, s.cfg.User)
}
