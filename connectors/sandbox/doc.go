// Package sandbox simulates Google, Facebook and GitHub on the wire: the pages a browser is sent to, the token
// endpoints, and the calls that say who signed in. Endpoints, parameters, bodies, errors and quirks are the real
// providers'; where nothing was captured or documented, a comment says so.
//
// It is for people developing offline (the dev command serves it), for tests, and for the benchmark. Anyone
// signs in as anyone without a password, so it must never be reachable by people who are not meant to. It may not
// import package connectors: it is the other side, written from the same facts, so that neither repeats the
// other's mistakes. State is in memory alone, bounded, and gone with the process.
//
// A sandbox is mounted at the root of its own origin:
//
//	{base}/google               Google's issuer
//	{base}/github               github.com; {base}/github/api is api.github.com
//	{base}/facebook             www.facebook.com; {base}/facebook/graph is graph.facebook.com
//	{base}/sandbox/             a page, and calls, to see the personas and to arm faults
package sandbox
