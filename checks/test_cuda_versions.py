"""Every .cu version, in every configuration, launched by the cuda device at GPT-2's shapes: on the
recording driver and without nvcc, so that names, arguments and sizes are tried and nothing else."""

from checks.fake_driver.record import passed, recorded

BODY = """
    import json
    from ported.executor import contracts_of, wanted
    from reference.programs import gpt2
    device = devices.open("cuda", precision="PRECISION")
    shapes = {}
    for fuse in ((), "all"):
        for master in (False, True):
            program = gpt2.gpt2("gpt2", 64, 1024, fuse=fuse, master=master)
            for name, axes, consts in wanted(program, contracts_of(program)).values():
                shapes.setdefault(name, []).append((axes, consts))
    launched, refused = {}, {}
    for file in source.read_all(language="cu").values():
        if file.language == "py" or not file.supports(
                device.precision, contract.of(file.contract_name).roles):
            continue
        for axes, consts in shapes.get(file.contract_name, ()):
            for parameters in file.configurations():
                promised = contract.of(file.contract_name)
                try:
                    kernel = device.load(file, promised, axes, parameters)
                except devices.NotApplicable as error:
                    refused[file.name] = str(error)
                    continue
                names = [tensor.name for tensor in promised.tensors] + list(kernel.scratch)
                if not any(zeroed for _, _, zeroed in kernel.scratch.values()):
                    kernel.bind(dict.fromkeys(names, 256), consts)()
                launched[file.name] = launched.get(file.name, 0) + 1
    never = {name: why for name, why in refused.items() if name not in launched}
    print(json.dumps([launched, never]))
    """


def tried(folder, precision: str) -> tuple[dict[str, int], dict[str, str]]:
    (launched, never), lines = passed(BODY.replace("PRECISION", precision), folder)
    assert len([line for line in lines if line.startswith("cuLaunchKernel")]) >= len(launched) > 0
    return launched, never


@recorded
def test_every_version_is_launched_at_the_shapes_of_gpt2_in_float32(tmp_path):
    assert not tried(tmp_path, "float32")[1]


@recorded
def test_every_version_is_launched_at_the_shapes_of_gpt2_in_bfloat16(tmp_path):
    assert not tried(tmp_path, "bfloat16")[1]
