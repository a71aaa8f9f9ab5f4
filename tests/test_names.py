"""Short names in MONAI configurations: this library's are found, and hide none of MONAI's."""

import inspect

import pytest
from monai.bundle import ComponentLocator, ConfigParser

import monai_iste
from monai_iste import networks, transforms

COMPONENTS = {
    name: component
    for module in (networks, transforms)
    for name in {*module.__all__, *dir(module)}
    if inspect.isclass(component := getattr(module, name)) or inspect.isfunction(component)
    if component.__module__.startswith("monai_iste.") and not name.startswith("_")
}
MODULES = ComponentLocator(excludes=["monai_iste"])
EVERYTHING = ComponentLocator()


def test_there_is_something_to_check():
    assert {"ISTE", "LoadRGBd", "degrade"} <= set(COMPONENTS)
    assert MODULES.get_component_module_name("LoadImaged") == "monai.transforms.io.dictionary"
    assert monai_iste.__version__


@pytest.mark.parametrize("name", sorted(COMPONENTS))
def test_no_name_is_taken_from_monai(name):
    assert MODULES.get_component_module_name(name) is None


@pytest.mark.parametrize("name", sorted(COMPONENTS))
def test_every_short_name_leads_to_one_component(name):
    assert EVERYTHING.get_component_module_name(name) == COMPONENTS[name].__module__


@pytest.mark.parametrize("name", sorted(COMPONENTS))
def test_short_names_resolve_in_configurations(name):
    parser = ConfigParser({"it": {"_target_": name, "_mode_": "callable"}})
    assert parser.get_parsed_content("it") is COMPONENTS[name]
