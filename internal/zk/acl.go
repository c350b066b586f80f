package zk

import gozk "github.com/go-zookeeper/zk"

// acl is what every znode created through a session with this config carries,
// but for secret ones:
// with credentials all rights for their owner (and reading for anyone where
// WorldRead says so), without them all rights for anyone.
func (c Config) acl() []gozk.ACL {
	if c.User == "" {
		return gozk.WorldACL(gozk.PermAll)
	}
	acl := c.secretACL()
	if c.WorldRead {
		acl = append(acl, gozk.WorldACL(gozk.PermRead)...)
	}
	return acl
}

// secretACL is that of a znode that nobody else may read, whatever WorldRead
// says. Without credentials it is as open as all others.
func (c Config) secretACL() []gozk.ACL {
	if c.User == "" {
		return gozk.WorldACL(gozk.PermAll)
	}
	return gozk.DigestACL(gozk.PermAll, c.User, c.Password)
}
