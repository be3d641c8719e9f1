"""Commands that an application declares, flags, and mistakes."""

from __future__ import annotations

import click
import pytest

from service_scaffold import errors
from service_scaffold.apps.stream import StreamApp
from service_scaffold.streams import cli


@pytest.fixture
def app() -> StreamApp:
    return StreamApp('shop', broker='memory://')


OURS = ('worker', 'agents', 'tables', 'topology', 'send', 'reset')


class TestDeclared:
    def test_arguments_and_options(self, app, run):
        @app.command(
            click.argument('first'), click.argument('second'), click.option('--n', type=int)
        )
        async def rebuild_all(first, second, n):
            """Rebuild."""
            click.echo(repr((first, second, n)))

        assert run(app, 'rebuild-all', 'a', 'b', '--n', '2').output == "('a', 'b', 2)\n"

    def test_functions_may_be_plain(self, app, run):
        @app.command()
        def hello():
            click.echo('Hello')

        assert run(app, 'hello').output == 'Hello\n'

    def test_decorators_of_click_below(self, app, run):
        @app.command()
        @click.argument('name')
        @click.option('--loud', is_flag=True)
        async def hello(name, loud):
            click.echo(name.upper() if loud else name)

        assert run(app, 'hello', 'ann', '--loud').output == 'ANN\n'

    def test_a_setting_that_click_does_not_know(self, app):
        with pytest.raises(TypeError, match='command shout: Command takes no hlep'):
            app.command(hlep='Shouts.', name='shout')(print)

    def test_a_class_of_its_own(self, app, run):
        class Shouting(click.Command):
            def get_short_help_str(self, limit=45):
                return 'LOUD'

        @app.command(base=Shouting, name='shout', epilog='The end.')
        def whatever():
            """Shout."""

        assert 'LOUD' in run(app, '--help').output
        assert 'The end.' in run(app, 'shout', '--help').output

    def test_an_own_one_wins(self, app, run):
        @app.command(name='tables')
        def own():
            click.echo('mine')

        assert run(app, 'tables').output == 'mine\n'

    def test_it_can_send_and_ask(self, app, run):
        numbers = app.topic('numbers', value_type=int)

        @app.agent(numbers)
        async def double(stream):
            async for number in stream:
                yield number * 2

        @app.command()
        async def play():
            sent = await numbers.send(value=1)
            click.echo(f'{sent.topic} {sent.offset}')
            with pytest.raises(TimeoutError):
                await double.ask(2, timeout=0.05)  # no worker runs

        assert run(app, 'play').output == 'numbers 0\n'
        assert app.runtime is None

    def test_it_works_again_and_again(self, app, run):
        @app.command()
        async def play():
            await app.send('numbers', value=1)

        assert [run(app, 'play').exit_code for _ in range(3)] == [0, 0, 0]

    def test_an_error_of_ours_is_one_line(self, app, run):
        @app.command()
        async def fail():
            raise errors.StreamError('it does not work')

        result = run(app, 'fail')

        assert (result.exit_code, result.stderr) == (1, 'Error: it does not work\n')

    def test_any_other_error_shows_where_it_was(self, app, run):
        @app.command()
        async def fail():
            raise ZeroDivisionError('a bug')

        with pytest.raises(ZeroDivisionError):
            run(app, 'fail')

    def test_no_credentials_in_errors(self, app, run):
        @app.command()
        async def fail():
            raise errors.BrokerUnreachable('kafka://ann:secret@host is away')

        assert 'secret' not in run(app, 'fail').stderr

    def test_a_broker_that_is_away_is_one_line(self, app, run):
        @app.command()
        async def play():
            await app.send('numbers', value=1)

        @app.agent('numbers')
        async def double(stream): ...

        @app.command()
        async def ask():
            await double.ask(1)

        for name in ('play', 'ask'):
            result = run(app, name, '--broker', 'kafka://127.0.0.1:1')

            assert result.exit_code == 1
            assert result.stderr.startswith('Error: ')
            assert '127.0.0.1:1' in result.stderr
            assert result.stderr.count('\n') == 1


class TestFlags:
    def test_each_command_takes_those_of_a_worker(self, app, run):
        for args in (('tables', '--name', 'store'), ('--name=store', 'tables')):
            app.Table('counts') if 'counts' not in app.tables else None
            assert 'store-counts-changelog' in run(app, *args).output

    def test_a_command_keeps_its_own_ones(self, app, run):
        @app.command(click.option('--port'))
        async def show(port):
            click.echo(f'{port} {app.config["port"]} {app.id}')

        assert run(app, 'show', '--port', 'x', '--name', 'store').output == 'x 6066 store\n'

    def test_switches(self, app, run):
        @app.command()
        async def show():
            click.echo(app.config['web_enabled'])

        assert run(app, 'show', '--no-web-enabled').output == 'False\n'

    def test_other_spellings(self, app, run):
        @app.command()
        async def show():
            click.echo(
                f'{app.config["web_enabled"]} {app.config["port"]} {app.config["log_level"]}'
            )

        args = ('--without-web', '--web-port', '7000', '-l', 'warning')

        assert run(app, 'show', *args).output == 'False 7000 warning\n'

    def test_a_wrong_value_is_a_usage_error(self, app, run, capsys):
        result = run(app, 'tables', '--topic-partitions', '0')

        assert result.exit_code == 2
        assert 'not a whole number' in result.stderr

    def test_what_contradicts_itself_is_a_usage_error(self, app, run):
        contradiction = ('--processing-guarantee', 'exactly_once', '--producer-acks', '1')

        result = run(app, 'tables', *contradiction)

        assert result.exit_code == 2
        assert 'producer_acks=-1' in result.stderr

    def test_an_unknown_one(self, app, run):
        result = run(app, 'tables', '--prot', '1')

        assert result.exit_code == 2
        assert 'No such option' in result.stderr


class TestHelp:
    def test_all_commands_are_listed(self, app, run):
        @app.command()
        async def hello():
            """Say hello."""

        output = run(app, '--help').output

        for name in (*OURS, 'hello'):
            assert f'\n  {name} ' in output

    @pytest.mark.parametrize('name', OURS)
    def test_each_has_its_own(self, app, run, name):
        result = run(app, name, '--help')

        assert result.exit_code == 0
        assert name in result.output.splitlines()[0]

    def test_that_of_the_worker_shows_all_options(self, app, run):
        output = run(app, 'worker', '--help').output

        assert '--processing-guarantee' in output
        assert '--port' in output

    def test_an_unknown_command_is_told_the_nearest(self, app, run):
        result = run(app, 'topolgy')

        assert result.exit_code == 2
        assert "There is no command 'topolgy'; did you mean 'topology'?" in result.stderr


class TestEntry:
    def test_main_ends_the_process(self, app, capsys):
        with pytest.raises(SystemExit) as ended:
            cli.main(app, ['tables', '--json'])

        assert ended.value.code == 0
        assert capsys.readouterr().out == '[]\n'

    def test_arguments_are_those_of_the_process(self, app, capsys, monkeypatch):
        monkeypatch.setattr('sys.argv', ['shop.py', 'tables', '--json'])

        with pytest.raises(SystemExit):
            app.main()

        assert capsys.readouterr().out == '[]\n'

    def test_modules_that_are_missing_are_one_line(self, capsys):
        app = StreamApp('shop', broker='memory://', autodiscover=['no.such.module'])

        with pytest.raises(SystemExit) as ended:
            cli.main(app, ['tables'])

        assert ended.value.code == 1
        assert 'no.such.module' in capsys.readouterr().err

    def test_a_bare_topology_cannot_be_run(self, run):
        from service_scaffold.streams.settings import StreamSettings
        from service_scaffold.streams.topology import Topology

        result = run(Topology(StreamSettings('shop')), 'worker')

        assert (result.exit_code, result.stderr.count('\n')) == (1, 1)

    async def test_any_application_by_its_module(self, start):
        program = await start('service_scaffold.streams', '-A', 'test.streams.cli.shop', 'agents')

        assert await program.ended() == 0
        assert 'Add up the orders of each account.' in program.output

    @pytest.mark.parametrize(
        ('path', 'status', 'said'),
        [
            ('no.such', 2, "There is no module 'no'"),
            ('test.streams.cli.shop:nothing', 2, "There is no 'nothing' in test.streams.cli.shop"),
            ('test.streams.cli.shop:orders', 1, 'orders> is no application with streams'),
        ],
    )
    async def test_a_module_that_is_not_there(self, start, path, status, said):
        program = await start('service_scaffold.streams', '-A', path, 'agents')

        assert await program.ended() == status
        assert said in program.log
