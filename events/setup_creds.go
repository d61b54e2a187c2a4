package events

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// writeCreds makes users by JWT.
func (u Users) writeCreds() ([]Done, error) {
	text, err := os.ReadFile(u.AccountSeedFile)
	if err != nil {
		return nil, fmt.Errorf("the account's seed: %w", err)
	}
	defer clear(text)
	account, err := nkeys.ParseDecoratedNKey(text)
	if err != nil || !nkeys.IsValidPublicAccountKey(publicKey(account)) {
		return nil, fmt.Errorf("%s: %w", u.AccountSeedFile, errAccountSeed)
	}
	defer account.Wipe()
	if u.Account != "" && !nkeys.IsValidPublicAccountKey(u.Account) {
		return nil, fmt.Errorf("the account %q is not the public key of one, which begins with A", u.Account)
	}
	replica, first, err := u.seed(replicaName + ".creds")
	if err != nil {
		return nil, err
	}
	admin, second, err := u.seed(adminName + ".creds")
	all := []Done{first, second}
	if err != nil || u.Dry {
		return all, err
	}
	r, a := publicKey(replica), publicKey(admin)
	return all, errors.Join(
		u.writeCred(account, replica, replicaName, replicaPermissions(r, a)),
		u.writeCred(account, admin, adminName, adminPermissions(a, r)))
}

// writeCred signs a user's permissions and writes them beside its seed.
func (u Users) writeCred(account, user nkeys.KeyPair, name string, p permissions) error {
	claims := jwt.NewUserClaims(publicKey(user))
	claims.Name = "tollgate-" + name
	if u.Account != "" && u.Account != publicKey(account) {
		claims.IssuerAccount = u.Account
	}
	claims.Pub.Allow.Add(p.Publish...)
	claims.Sub.Allow.Add(p.Subscribe...)
	token, err := claims.Encode(account)
	if err != nil {
		return fmt.Errorf("signing the user %s: %w", name, err)
	}
	seed, err := user.Seed()
	if err != nil {
		return err
	}
	text, err := jwt.FormatUserConfig(token, seed)
	if err != nil {
		return err
	}
	return writeWhole(filepath.Join(u.Dir, name+".creds"), text, 0o600)
}
