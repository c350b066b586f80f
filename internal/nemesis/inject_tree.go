package nemesis

import (
	"context"
	"errors"
	"fmt"

	gozk "github.com/go-zookeeper/zk"

	"github.com/zklvs/zklvs/internal/lab"
)

// deleteLocks deletes every lock of a group.
func deleteLocks(ctx context.Context, s *site, p struck) (func(context.Context) error, error) {
	return nil, s.byHand(ctx, func(conn *gozk.Conn) error { return s.dropLocks(conn, p.group.name) })
}

func (s *site) dropLocks(conn *gozk.Conn, group string) error {
	locks, _, err := conn.Children(s.tree.Election(group))
	if err != nil {
		return ignoreNoNode(err)
	}
	for _, lock := range locks {
		if err := ignoreNoNode(conn.Delete(s.tree.Election(group)+"/"+lock, -1)); err != nil {
			return fmt.Errorf("delete lock %s: %w", lock, err)
		}
	}
	return nil
}

func deleteRecord(ctx context.Context, s *site, p struck) (func(context.Context) error, error) {
	return nil, s.byHand(ctx, func(conn *gozk.Conn) error { return ignoreNoNode(conn.Delete(s.tree.Record(p.group.name), -1)) })
}

// deleteVoters deletes a group's list of voters, which its holder makes anew. It
// is healed then, and not before: without list and holder nobody may take.
func deleteVoters(ctx context.Context, s *site, p struck) (func(context.Context) error, error) {
	path := s.tree.Voters(p.group.name)
	heal := func(ctx context.Context) error {
		return lab.WaitUntil(ctx, "the list of voters is made anew", func() error {
			return s.byHand(ctx, func(conn *gozk.Conn) error {
				_, _, err := conn.Get(path)
				return err
			})
		})
	}
	return heal, s.byHand(ctx, func(conn *gozk.Conn) error { return ignoreNoNode(conn.Delete(path, -1)) })
}

// deleteElection deletes a group's queue with all locks; others may create new
// ones meanwhile, so it is tried again.
func deleteElection(ctx context.Context, s *site, p struck) (func(context.Context) error, error) {
	return nil, s.byHand(ctx, func(conn *gozk.Conn) error { return s.dropElection(ctx, conn, p.group.name) })
}

func (s *site) dropElection(ctx context.Context, conn *gozk.Conn, group string) error {
	for ctx.Err() == nil {
		if err := s.dropLocks(conn, group); err != nil {
			return err
		}
		if err := ignoreNoNode(conn.Delete(s.tree.Election(group), -1)); !errors.Is(err, gozk.ErrNotEmpty) {
			return err
		}
	}
	return ctx.Err()
}

// deleteGroup deletes all of a group's election, as `deleteall` of zkCli would. A
// director that comes between may put a part back; else the documents must be
// applied again, as the log of the directors says.
func deleteGroup(itself bool) func(context.Context, *site, struck) (func(context.Context) error, error) {
	return func(ctx context.Context, s *site, p struck) (func(context.Context) error, error) {
		err := s.byHand(ctx, func(conn *gozk.Conn) error {
			if err := ignoreNoNode(conn.Delete(s.tree.Record(p.group.name), -1)); err != nil {
				return err
			}
			if err := s.dropElection(ctx, conn, p.group.name); err != nil || !itself {
				return err
			}
			if err := conn.Delete(s.tree.Group(p.group.name), -1); !errors.Is(err, gozk.ErrNotEmpty) {
				return ignoreNoNode(err)
			}
			return nil
		})
		return func(ctx context.Context) error {
			_, err := s.Apply(ctx, s.text)
			return err
		}, err
	}
}

func ignoreNoNode(err error) error {
	if errors.Is(err, gozk.ErrNoNode) {
		return nil
	}
	return err
}

// badDocuments are what somebody may leave in a group's document.
var badDocuments = []string{"", "vips: [not an address]\n", "vips: []\n", "{", "vips: [192.168.150.1/99]\nprio: 7\n"}

// spoilDocument replaces a group's document by one that no director understands.
func spoilDocument(ctx context.Context, s *site, p struck) (func(context.Context) error, error) {
	path := s.tree.SpecGroups() + "/" + p.group.name
	var before []byte
	err := s.byHand(ctx, func(conn *gozk.Conn) (err error) {
		if before, _, err = conn.Get(path); err == nil {
			_, err = conn.Set(path, []byte(badDocuments[p.Dice%len(badDocuments)]), -1)
		}
		return err
	})
	if before == nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		return s.byHand(ctx, func(conn *gozk.Conn) error {
			_, err := conn.Set(path, before, -1)
			return err
		})
	}, err
}
