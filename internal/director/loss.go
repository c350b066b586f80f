package director

import (
	"go.uber.org/zap"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/logfield"
	"github.com/zklvs/zklvs/internal/spec"
)

// fenceBecause returns why this director gives its groups up when ZooKeeper is
// away, "" if it tries to hold them: the election sees to it that it never does
// with fewer than two directors.
func (d *Director) fenceBecause(c spec.Cluster) string {
	if c.OnZooKeeperLoss == spec.Fence {
		return "the cluster's document says so"
	}
	return d.cfg.CannotHold()
}

// logLoss tells once what happens when ZooKeeper is away.
func (d *Director) logLoss(c spec.Cluster) {
	because := d.fenceBecause(c)
	if d.lossTold != nil && *d.lossTold == because {
		return
	}
	d.lossTold = &because
	switch {
	case because == "":
		d.log.Info("while ZooKeeper is away this director holds for as long as all others promise not to take")
	case c.OnZooKeeperLoss == spec.Hold:
		d.log.Warn("while ZooKeeper is away this director gives its groups up, though on_zookeeper_loss is hold", zap.String(logfield.Reason, because))
	default:
		d.log.Info("while ZooKeeper is away this director gives its groups up", zap.String(logfield.Reason, because))
	}
}

// onLoss is what Presence says of it.
func (d *Director) onLoss(c spec.Cluster) string {
	if because := d.fenceBecause(c); because != "" {
		return "fence: " + because
	}
	return "hold"
}

// explainLoss says of groups that are not to be held why not.
func (d *Director) explainLoss(groups []election.GroupStatus, c spec.Cluster) {
	because := d.fenceBecause(c)
	for i := range groups {
		if g := &groups[i]; g.OnZooKeeperLoss == "fence" && because != "" {
			g.OnZooKeeperLoss = "fence: " + because
		}
	}
}
