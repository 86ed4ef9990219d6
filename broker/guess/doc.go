// Package guess slows down whoever guesses passwords, and nobody else.
//
// broker/throttle counts the tries of one thing; here three things are weighed together, so that none of them can be turned against the person who owns the
// account. broker/local asks it before each check of a password ([Throttle.Begin]) and tells it what came of it. It keeps counters in the store, so that the
// limits hold over all nodes, and knows usernames and addresses alone: whether an account exists makes no difference to it.
//
// # Why it cannot be used to lock somebody out
//
// A limit that counts an account's failures wherever they come from lets a stranger lock the account by failing on purpose; one that counts an
// address's alone lets many addresses guess together. So there are three counters, and each attempt meets those that it can be blamed for:
//
//   - The pair of username and address. Its delay grows with the failures of this address on this account. Only who shares the address
//     with a guesser feels it.
//   - The address (an IPv4 address, or an IPv6 /64, which is what one subscriber gets), over all usernames: it bounds who tries one password on many
//     accounts.
//   - The username, over all addresses that are strangers to it: it bounds many addresses that guess together. When it is
//     exceeded, a stranger's address has to wait before its next attempt, once for each. The wait is the address's own and begins
//     when it first asks: what others do in the meantime does not prolong it. So the account's owner, coming from a new place in the middle of an attack,
//     waits for MaxStrangerWait at most, and gets in.
//
// A pair from which the right password has come before is known. It meets its own counter alone, with a larger budget: no failure of anybody elsewhere
// delays it, be it on the same username or, from the same address, on others. That is what keeps an attack from reaching the people who use the account.
//
// # What it bounds
//
// One address has 10 attempts at a username, some ten more while the delay grows from 5 seconds to an hour, then one an hour: about 45 in the first day, 24 in
// each after it. N addresses together have N times that, and under attack no more than one each in MaxStrangerWait: that much a bounded wait for strangers
// costs, whatever the scheme. A password that is not among the few thousand commonest stands it.
//
// # What it cannot do
//
// People behind one address look alike. Who shares the address of a guesser may have to wait with them: on the pair if it is their account
// that is guessed, on the address if they have never signed in from there. And whoever can send from an address that is known to an account learns, by
// not being delayed, that it is. When a client's own server is all that the broker sees, all its people share one address: the client has to pass on
// theirs (docs/user-credentials.md).
//
// # How it answers
//
// At once: an attempt that comes too early is refused with the time to wait ([Delayed]), never held. It is not counted, and does not prolong the
// wait. An attempt is counted as a failure before the password is looked at, and forgiven if it was right: so a burst of
// guesses cannot pass while the first is still being computed, and no guess is computed that is not paid for.
package guess
