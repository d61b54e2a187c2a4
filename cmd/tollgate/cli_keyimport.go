package main

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tollgate/authz/key"
	"tollgate/authz/manage"
)

// importFlags are the fields of a key that is imported.
type importFlags struct {
	of                owner
	fields            keyFlags
	sha256, plaintext string
	prefix            string
}

func (i *importFlags) add(cmd *cobra.Command) {
	i.of.add(cmd)
	i.fields.add(cmd)
	f := cmd.Flags()
	f.StringVar(&i.sha256, "sha256", "", "the SHA-256 of the whole key, 64 hexadecimal digits")
	f.StringVar(&i.plaintext, "plaintext", "", "-: read the key from standard input and hash it here; it is not sent")
	f.StringVar(&i.prefix, "prefix", "", "the part of the key that may be shown, its first 1 to 16 characters")
}

func newKeyImport(k *keyCommand) *cobra.Command {
	var flags importFlags
	var file string
	var dryRun bool
	cmd := &cobra.Command{
		Use: "import", Short: "Import keys that callers have already, by their SHA-256", Args: takes(),
		Long: `Import keys that callers have already, by their SHA-256: they go on working.

A CSV file begins with a row of column names: those of the flags of this command (name, sha256, models, …) and
workspace. Column plaintext is hashed here and not sent. All rows are imported, or none where one can't be; each is
reported. The same file may be imported again: what is there already stays as it is.`,
		Example: "  tollgate key import --name old --sha256 5e88…\n" +
			"  tollgate key import --name old --plaintext - <key.txt\n" +
			"  tollgate key import --csv keys.csv --dry-run",
		RunE: func(cmd *cobra.Command, _ []string) error {
			set := cmd.Flags().Changed
			switch given := countTrue(set("sha256"), set("plaintext"), set("csv")); {
			case given != 1:
				return usage(cmd, "say what to import by one of --sha256, --plaintext and --csv")
			case dryRun && file == "":
				return usage(cmd, "--dry-run goes with --csv")
			case set("plaintext") && flags.plaintext != "-":
				return usage(cmd, "--plaintext takes - only, and reads the key from standard input: a command line can be seen by others")
			}
			c, p, err := k.client(cmd)
			if err != nil {
				return err
			}
			if file != "" {
				return k.importFile(cmd, c, p, file, dryRun)
			}
			req, err := k.request(cmd, &flags.of, &flags.fields)
			if err != nil {
				return err
			}
			secret := ""
			if set("plaintext") {
				if secret, err = readSecret(cmd.InOrStdin()); err != nil {
					return err
				}
			}
			if err := digestOf(&req, flags.sha256, secret, flags.prefix); err != nil {
				return usage(cmd, "%v", err)
			}
			made, err := c.CreateKey(cmd.Context(), req)
			if err != nil {
				return withID(err)
			}
			if p.json {
				return p.raw(made.Raw)
			}
			return p.linef("Imported %s.", made.Value.ID)
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&file, "csv", "", "import all keys of a file; -: of standard input")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be done")
	return cmd
}

func countTrue(of ...bool) (n int) {
	for _, b := range of {
		if b {
			n++
		}
	}
	return n
}

// maxSecret is the most characters that an imported key may have.
const maxSecret = 4096

func readSecret(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, maxSecret+2)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return line, nil
}

// digestOf puts the digest of a key into a request: as it is given, or that of
// the key itself. No error repeats the key.
func digestOf(req *manage.KeyRequest, sha256, secret, prefix string) error {
	if sha256 != "" && secret != "" {
		return errors.New("give either the sha256 or the plaintext")
	}
	if prefix != "" {
		req.Prefix = &prefix
	}
	if sha256 != "" {
		req.SHA256 = new(key.Digest)
		return req.SHA256.UnmarshalText([]byte(sha256))
	}
	secret = strings.TrimSpace(secret)
	switch {
	case secret == "":
		return errors.New("there is no key to import")
	case len(secret) > maxSecret:
		return fmt.Errorf("a key has at most %d characters", maxSecret)
	case strings.ContainsFunc(secret, func(r rune) bool { return r > unicode.MaxASCII || r <= ' ' || r == 0x7f }):
		return errors.New("a key that can be sent in a header has no white space or control characters inside, and is ASCII")
	case ours.Claims(secret) && !ours.Match(secret):
		return errors.New("the key begins as the keys that Tollgate makes do, and its checksum is wrong: such a key is always refused")
	}
	d := key.DigestOf(secret)
	req.SHA256 = &d
	if shown := secret[:shownOf(secret)]; prefix == "" && shown != "" {
		req.Prefix = &shown
	}
	return nil
}

// ours is the form that nothing else may begin like.
var ours = key.MustFormat(key.DefaultFormat)

// shownOf is how much of a key may be shown when nothing is said: little of a
// short one.
func shownOf(secret string) int {
	if len(secret) < 32 {
		return 0
	}
	return 8
}

// importRow is a row of a CSV file.
type importRow struct {
	line int
	req  manage.KeyRequest
	err  error // the row can't be read
}

// importFile imports all keys of a CSV file, or none.
func (k *keyCommand) importFile(cmd *cobra.Command, c *manage.Client, p *printer, name string, dryRun bool) error {
	in := cmd.InOrStdin()
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	rows, err := k.readRows(in)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	report := &importReport{rows: rows, DryRun: dryRun}
	// What one request can take is checked and imported by the server as a whole;
	// of a longer file all is checked before anything is imported.
	if report.check(); report.Refused == 0 && (dryRun || len(rows) > chunk) {
		if err := report.send(cmd.Context(), c, p, true); err != nil {
			return err
		}
	}
	if report.Refused == 0 && !dryRun {
		if err := report.send(cmd.Context(), c, p, false); err != nil {
			return err
		}
	}
	return report.print(p)
}

// readRows reads a CSV file. What is wrong with a row as such is in the row.
func (k *keyCommand) readRows(in io.Reader) ([]importRow, error) {
	r := csv.NewReader(in)
	r.TrimLeadingSpace = true
	head, err := r.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("it is empty; its first row has the names of the columns")
	}
	if err != nil {
		return nil, err
	}
	head[0] = strings.TrimPrefix(head[0], "\ufeff") // as spreadsheets begin a file
	for i := range head {
		head[i] = kebab(strings.TrimSpace(head[i]))
	}
	if _, err := k.readRow(head, nil); err != nil {
		return nil, err
	}
	var rows []importRow
	for {
		cells, err := r.Read()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return nil, err
		}
		line, _ := r.FieldPos(0)
		row := importRow{line: line}
		row.req, row.err = k.readRow(head, cells)
		rows = append(rows, row)
	}
}

// readRow reads the cells of a row as the flags that its columns are named like;
// nil: only whether there are such columns. An empty cell says nothing.
func (k *keyCommand) readRow(head, cells []string) (req manage.KeyRequest, err error) {
	var flags importFlags
	cmd := &cobra.Command{Use: "row"}
	flags.add(cmd)
	var workspace string
	cmd.Flags().StringVar(&workspace, "workspace", k.workspace, "")
	for i, name := range head {
		if cmd.Flags().Lookup(name) == nil {
			var names []string
			cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
			// What stands there may be a key, in a file without a row of names.
			return req, fmt.Errorf("the first row must name the columns, and number %d of it is none of %s", i+1, strings.Join(names, ", "))
		}
		if slices.Contains(head[:i], name) {
			return req, fmt.Errorf("there are two columns %s", name)
		}
		if cells == nil || strings.TrimSpace(cells[i]) == "" {
			continue
		}
		if err := cmd.Flags().Set(name, strings.TrimSpace(cells[i])); err != nil {
			return req, fmt.Errorf("%s can't be read", name) // pflag's words would repeat the cell
		}
	}
	if cells == nil {
		return req, nil
	}
	row := keyCommand{workspace: workspace}
	if req, err = row.request(cmd, &flags.of, &flags.fields); err != nil {
		return req, errors.New(strings.TrimSuffix(err.Error(), "; see row --help"))
	}
	return req, digestOf(&req, flags.sha256, flags.plaintext, flags.prefix)
}

// kebab is the name of a flag for a field of the API: requestsPerMinute is
// requests-per-minute.
func kebab(s string) string {
	var b strings.Builder
	for i, r := range s {
		if unicode.IsUpper(r) && i > 0 && s != strings.ToUpper(s) {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
