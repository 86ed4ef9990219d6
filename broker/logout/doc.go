// Package logout tells clients that a session has ended: OpenID Connect Back-Channel Logout 1.0, with deliveries that survive a
// restart and a client that is down.
//
// broker/signin calls [Outbox.SessionEnded] when a person signs out, and whoever disables or removes an account calls
// [Outbox.AccountEnded], a command in a process of its own included. Both write one document per client and delivery before they
// return, and send nothing. The [Courier], which broker.Run keeps going, sends: it takes a delivery by a compare-and-swap that
// is also a lease, so that of many nodes one sends it; a node that dies in between loses nothing but the lease's time.
//
// A delivery is made at least once. Its jti stays the same, so that a client can tell a repetition; iat and exp are those of
// the attempt, since a token that lives two minutes (section 2.4) would be stale at the second.
//
// Some time after a session has ended it is looked at again, for what came of codes that were on their way.
//
// Nothing here is asked on a login or a refresh: which clients have signed in with a session is in their grants, which
// are there anyway. The package may not know of browsers and pages; what a browser carries to clients is broker/signin's.
package logout
