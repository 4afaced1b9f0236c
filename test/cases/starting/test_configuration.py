"""The configuration file: which one is read, what wins, how mistakes are told."""

from pathlib import Path

from blackbox.case import OwnServerCase


class Configuration(OwnServerCase):
    def file(self, text):
        path = Path(self.folder()) / "config.toml"
        path.write_text(text)
        return path

    def test_a_file_is_read_and_said_to_be(self):
        path = self.file('call-deadline = "1s"\ngrpc-port = 0\n')
        server = self.start(TF_CONFIG=path)
        self.assertIn(str(path), server.output())
        name = self.script("#!/bin/sh\nsleep 30\n")
        self.assertEqual(self.call(name).status, 504)
        self.remove(name)

    def test_a_flag_wins_over_a_variable_and_that_over_the_file(self):
        path = self.file('http-port = -1\ndata-dir = "/nowhere/of/the/file"\n')
        server = self.start(TF_CONFIG="/nowhere/of/the/variable", arguments=["--config", str(path)])
        self.assertGreater(server.ports["http"], 0)

    def test_the_users_own_file_is_found(self):
        # Root's is /etc/tinyfaas/config.toml, which is this machine's.
        home = self.open_folder()
        (home / "tinyfaas-config" / "tinyfaas").mkdir(parents=True)
        (home / "tinyfaas-config" / "tinyfaas" / "config.toml").write_text('uploads-max = "many"\n')
        server = self.prepare(XDG_CONFIG_HOME=home / "tinyfaas-config").as_ordinary_user(home).launch()
        self.assertEqual(server.exit(), 2, server.output())
        self.assertIn("config.toml:1: uploads-max", server.output())

    def test_all_mistakes_of_all_sources_are_told_at_once(self):
        path = self.file('http-prt = 1\ncall-deadline = "soon"\n\nuploads-max = []\n')
        self.fails_to_start(
            f'{path}:1: there is no setting "http-prt"; is http-port meant?',
            f'{path}:2: call-deadline="soon": not a time',
            f"{path}:4: uploads-max is a list; it must be a whole number",
            'TF_HTTP_BODY_MAX="big": not a size',
            '--log-level="loud": use one of',
            TF_CONFIG=path, TF_HTTP_BODY_MAX="big", arguments=["--log-level", "loud"],
        )

    def test_a_file_that_is_named_must_be_there_and_toml(self):
        self.fails_to_start('TF_CONFIG="/nowhere/c.toml": there is no such file', TF_CONFIG="/nowhere/c.toml")
        path = self.file("http-port 8000\n")
        self.fails_to_start(f"{path}:1: this is not TOML", TF_CONFIG=path)
