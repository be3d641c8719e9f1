"""Features show what they have counted, each metric once."""

from aiohttp import web

from service_scaffold import features, service, testing
from service_scaffold.features import Family, Histogram, Spread


class Pump(features.ServiceFeature):
    """Shows the families that it is given."""

    def __init__(self, app: web.Application, *families: Family | Histogram | None) -> None:
        super().__init__(app)
        self.families = families

    async def startup(self, app: web.Application) -> None: ...

    async def shutdown(self, app: web.Application) -> None: ...

    def metric_families(self):
        for family in self.families:
            if family is None:
                raise OSError('the pump is away')
            yield family


def litres(*samples, labels=('pump',), kind='counter'):
    return Family(kind, 'pumped_litres', 'Litres pumped.', labels, samples)


async def scraped(*pumps):
    app = service.create_app('plant', raw_args=[])
    for families in pumps:
        Pump(app, *families)
    service.furnish(app)
    async with testing.running(app) as started:
        answer = await started.client.get('/_service/metrics')
        assert answer.status == 200
        return await answer.text()


async def test_a_counter_and_a_histogram_of_a_feature():
    waits = Histogram('wait_seconds', 'Waiting.', (), (0.1, 1.0), [((), Spread([2, 1, 1], 9.5))])
    text = await scraped([litres((('north',), 3)), waits])

    assert 'pumped_litres_total{pump="north"} 3.0' in text
    assert 'wait_seconds_bucket{le="1.0"} 3.0' in text
    assert 'wait_seconds_bucket{le="+Inf"} 4.0' in text
    assert 'wait_seconds_sum 9.5' in text


async def test_two_features_of_a_kind_are_one_family():
    """Samples with equal labels are added up; Prometheus refuses a series twice."""
    waits = Histogram('wait_seconds', 'Waiting.', (), (1.0,), [((), Spread([2, 1], 4.0))])
    text = await scraped(
        [litres((('north',), 3), (('south',), 1)), waits], [litres((('north',), 4)), waits]
    )

    assert text.count('# TYPE pumped_litres_total') == 1
    assert 'pumped_litres_total{pump="north"} 7.0' in text
    assert 'pumped_litres_total{pump="south"} 1.0' in text
    assert 'wait_seconds_bucket{le="1.0"} 4.0' in text
    assert 'wait_seconds_sum 8.0' in text


async def test_families_that_are_not_alike_are_not_mixed(caplog):
    """The first one is shown, and the log says what is left out."""
    text = await scraped([litres((('north',), 3))], [litres(((), 4), labels=())])

    assert 'pumped_litres_total{pump="north"} 3.0' in text
    assert '4.0' not in text.partition('pumped_litres_total{')[2].partition('#')[0]
    assert 'pumped_litres is there twice' in caplog.text


async def test_a_feature_that_fails_costs_nobody_else(caplog):
    text = await scraped([litres((('north',), 3)), None], [litres((('south',), 1))])

    assert 'pumped_litres_total{pump="south"} 1.0' in text
    assert 'north' not in text
    assert 'metric_families() of Pump failed' in caplog.text
