package worker

import (
	"fmt"
	"slices"
	"strings"

	"barnabas/access"
	"barnabas/audit"
	"barnabas/worker/task"
)

// This file tells the audit trail what this worker does by itself. Nothing here waits, or decides anything.

// event fills in what all events have in common.
func (w *Worker) event(action string, outcome audit.Outcome, reason string) audit.Entry {
	return audit.Entry{Action: action, Resource: access.Resource("connect:cluster", w.o.File.GroupID), Outcome: outcome, Reason: reason}
}

// runEvent tells something of a run.
func (w *Worker) runEvent(r task.Run, action string, err error, reason string) {
	if w.o.Event == nil {
		return
	}
	e := w.event(action, audit.Done, reason)
	if err != nil {
		e.Outcome = audit.Failed
		e.Reason = strings.TrimPrefix(reason+": "+err.Error(), ": ")
	}
	e.Resource = access.Resource("connect:connector", r.Connector)
	e.Use = &audit.Use{Task: r.Task, Generation: r.Generation}
	if action != audit.Ended {
		e.Use.Clients, e.Use.Topics = clientsUsed(w.runner.ClientsOf(r.ID)), topicsOf(r)
	}
	w.o.Event(e)
}

func clientsUsed(clients []task.ClientUse) (all []audit.Client) {
	for _, c := range clients {
		client := audit.Client{Role: c.Role, Cluster: c.Cluster, Principal: c.Principal}
		for _, u := range c.Credentials {
			client.Credentials = append(client.Credentials, audit.Credential{Reference: u.Reference, Version: u.Version})
		}
		all = append(all, client)
	}
	return all
}

// topicsOf are the topics that a task's configuration names: those of its partitions, or those of a sink or a file's.
func topicsOf(r task.Run) (topics []string) {
	if r.Task < 0 {
		return nil
	}
	for part := range strings.SplitSeq(r.Config["task.assigned.partitions"], ",") {
		if dash := strings.LastIndexByte(part, '-'); dash > 0 {
			topics = append(topics, strings.TrimSpace(part[:dash]))
		}
	}
	if len(topics) == 0 {
		for _, key := range []string{"topics", "topic"} {
			for topic := range strings.SplitSeq(r.Config[key], ",") {
				if topic = strings.TrimSpace(topic); topic != "" {
					topics = append(topics, topic)
				}
			}
		}
	}
	slices.Sort(topics)
	topics = slices.Compact(topics)
	return topics[:min(len(topics), audit.MaxTopics)]
}

// leadership tells when this worker begins to lead and when it ends. It is called in the loop, after each step.
func (w *Worker) leadership() {
	if w.o.Event == nil {
		return
	}
	epoch, _ := w.machine.Epoch()
	_, self, ok := w.machine.Leader()
	switch leads := self && ok; {
	case leads && w.ledEpoch == 0:
		w.ledEpoch = epoch
		w.o.Event(w.event(audit.TookLead, audit.Done, fmt.Sprintf("epoch %d", epoch)))
	case !leads && w.ledEpoch > 0:
		w.o.Event(w.event(audit.EndedLead, audit.Done, fmt.Sprintf("epoch %d", w.ledEpoch)))
		w.ledEpoch = 0
	}
}
