package main

// The subscriptions of open streams to documents. A writer only records the ids that it has changed. A moment later,
// a timer finds the streams by an index, so that the cost of many subscriptions is not the writer's.

import "net/netip"

const (
	maxSubscriptions = 1000 // URIs of one client

	// maxPendingChanges is how many changed ids are kept. Beyond it, any document counts as changed.
	maxPendingChanges = 10_000
)

// subscriptionIndex is a part of streams, and guarded by its mutex.
type subscriptionIndex struct {
	byID     map[string]map[*stream]bool // streams by the id that they subscribe to
	lists    map[*stream]bool            // streams that want list_changed
	byClient map[netip.Prefix]int        // URIs of a client

	pending     map[string]bool // changed ids without a notification yet
	anyPending  bool            // any document may have changed
	isScheduled bool            // the timer for notify runs
}

func newSubscriptionIndex() subscriptionIndex {
	return subscriptionIndex{
		byID:     make(map[string]map[*stream]bool),
		lists:    make(map[*stream]bool),
		byClient: make(map[netip.Prefix]int),
		pending:  make(map[string]bool),
	}
}

// errTooManySubscriptions is of kind rpcError.
var errTooManySubscriptions = rpcErrorf(codeInvalidParams,
	"a client has at most %d subscriptions: resources/list_changed tells of every change",
	maxSubscriptions)

// add adds a subscription of st. The error is errTooManySubscriptions.
func (x *subscriptionIndex) add(st *stream, id string) error {
	if x.byClient[st.client] >= maxSubscriptions {
		return errTooManySubscriptions
	}
	x.byClient[st.client]++
	if x.byID[id] == nil {
		x.byID[id] = make(map[*stream]bool)
	}
	x.byID[id][st] = true
	return nil
}

// remove removes n subscriptions of st to the document.
func (x *subscriptionIndex) remove(st *stream, id string, n int) {
	delete(x.byID[id], st)
	if len(x.byID[id]) == 0 {
		delete(x.byID, id)
	}
	x.byClient[st.client] -= n
	if x.byClient[st.client] <= 0 {
		delete(x.byClient, st.client)
	}
}

// affected returns the ids to notify of. If any document may have changed, these are all ids with a subscription.
func (x *subscriptionIndex) affected(ids map[string]bool, isAny bool) map[string]bool {
	if !isAny {
		return ids
	}
	all := make(map[string]bool, len(x.byID))
	for id := range x.byID {
		all[id] = true
	}
	return all
}
