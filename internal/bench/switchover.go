package bench

import "context"

type Switchover struct{}

func (Switchover) Name() string                                     { return "switchover" }
func (Switchover) Title() string                                    { return "Requests" }
func (Switchover) Page() string                                     { return "failover" }
func (Switchover) About() string                                    { return "" }
func (Switchover) Measures() []Measure                              { return nil }
func (Switchover) Plots() []Plot                                    { return nil }
func (Switchover) Targets() []Target                                { return nil }
func (Switchover) NeedsIPVS() bool                                  { return true }
func (Switchover) Run(ctx context.Context, env Env) (Result, error) { return Result{}, nil }
