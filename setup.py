"""Package metadata of chalice-ci; the tools' settings are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

setup(
    name="chalice-ci",
    version="0.1.0",
    description="Check, plan and deploy AWS Chalice apps from CI; the state is recorded.",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    package_dir={"": "src"},
    packages=find_packages("src", exclude=["chalice_ci.child*", "chalice_ci.sample*"]),
    package_data={
        "chalice_ci": [
            "py.typed",
            "child/chalice_ci_child/*.py",
            # The sample of `chalice-ci demo`, dot files included.
            "sample/*.yml",
            "sample/orders/*",
            "sample/orders/.gitignore",
            "sample/orders/.chalice/*",
            "sample/orders/chalicelib/*",
            "locks/*.txt",
            "schemas/*.json",
            "scaffold/*.yml",
            "scaffold/pipelines/*",
            "upgrade/*.toml",
        ]
    },
    install_requires=[
        "boto3>=1.40,<2",
        "click>=8.1,<9",
        "PyGithub>=2.9,<3",
        "PyNaCl>=1.6,<2",
        "PyYAML>=6.0,<7",
        "junit-xml>=1.9,<2",
        "packaging>=25.0",
        "pathspec>=1.0,<2",
        # Bitbucket's and Azure's API; PyGithub brings it too.
        "requests>=2.32,<3",
        "squarify>=0.4.5,<0.5",
        "uv>=0.13,<0.14",
    ],
    extras_require={
        "gitlab": ["python-gitlab>=8,<9"],
        "local": [
            "cmarkgfm>=2025.10",
            "moto[apigateway,apigatewayv2,awslambda,dynamodb,events,iam,kinesis,logs,s3,server,sns,sqs]>=5.2,<5.3",
        ],
    },
    entry_points={"console_scripts": ["chalice-ci=chalice_ci.__main__:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        "Operating System :: MacOS",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Software Development :: Build Tools",
        "Typing :: Typed",
    ],
)
