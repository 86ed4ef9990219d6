// Package config is what an operator tells the broker: one YAML file, its defaults, an environment that overlays
// it, and the rules that both have to keep.
//
// The commands call [Load]; tests call [Parse]. What comes back is complete and valid: every default is filled in,
// every secret that was given as a file is read, and nothing in it contradicts anything else. Whatever is wrong is
// reported at once, as [Problems], each with the line of the file or the variable that it is about. A key that
// nobody knows is wrong: a misspelt setting must not look as if it worked.
//
// # Environment
//
// Every key has a variable: PORTICO_ and its path in upper case, joined by '_'. store.path is PORTICO_STORE_PATH. An
// item of a list is addressed by its name (client_id for clients) in upper case with '_' for everything that is neither
// letter nor digit, or by its index: PORTICO_CONNECTORS_GOOGLE_CLIENT_ID, PORTICO_KEYRING_0_SECRET. The index
// one past the last makes a new item. A list of words is separated by commas. A secret is also read from the file
// that the variable with _FILE at its end names. An empty variable counts as unset. A variable that begins with
// PORTICO_ and means nothing is an error, except PORTICO_CONFIG (which file to read), PORTICO_TEST_… and what Kubernetes
// sets for services.
//
// # Bounds
//
// The package imports nothing of the broker, so it knows the form of a setting and not its use: the registry judges
// redirect URIs, the connectors judge their settings again. It reads the configuration and the secrets' files and
// nothing else, reaches no network, and never puts a secret into an error.
package config
